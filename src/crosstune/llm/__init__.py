"""A language model behind an OpenAI-compatible endpoint: answers with citations, questions for passages."""

from crosstune.llm.answer import NO_ANSWER, Cited, answer, cited
from crosstune.llm.client import LanguageModel, Message, Usage, configured, connect
from crosstune.llm.failures import BadReply
from crosstune.llm.filters import Dropped, Filtered, near_duplicate_questions, round_trip
from crosstune.llm.synthesis import Synthesis, SyntheticPair, synthesize, synthesize_many
from crosstune.llm.templates import DEFAULT, QuestionStyle, Templates, load_templates

__all__ = [
    "DEFAULT",
    "NO_ANSWER",
    "BadReply",
    "Cited",
    "Dropped",
    "Filtered",
    "LanguageModel",
    "Message",
    "QuestionStyle",
    "Synthesis",
    "SyntheticPair",
    "Templates",
    "Usage",
    "answer",
    "cited",
    "configured",
    "connect",
    "load_templates",
    "near_duplicate_questions",
    "round_trip",
    "synthesize",
    "synthesize_many",
]
