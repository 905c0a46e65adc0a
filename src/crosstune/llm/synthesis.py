"""Questions for passages, written by a language model: training data where users' questions are missing."""

from __future__ import annotations

import re
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from typing import Any

from crosstune.errors import ConfigError, LlmError
from crosstune.llm.client import LanguageModel, Message
from crosstune.llm.failures import BadReply
from crosstune.llm.fence import fenced
from crosstune.llm.templates import DEFAULT, QuestionStyle, Templates
from crosstune.text import content_hash
from crosstune.types import Passage

_N_TRIES = 3
_HOPELESS = 5


@dataclass(frozen=True, slots=True)
class SyntheticPair:
    """A question that a passage answers. For training the passage is the answer.

    Attributes:
        answer: The model's short answer, for people to read.
        style: Name of the question's style.
    """

    question: str
    answer: str
    style: str
    passage_id: str


@dataclass(frozen=True, slots=True)
class Synthesis:
    """What became of one passage.

    Attributes:
        pairs: Empty when it failed.
        error: Why it failed; None when it did not.
    """

    passage_id: str
    pairs: tuple[SyntheticPair, ...]
    error: LlmError | None


def synthesize(
    passage: Passage, model: LanguageModel, templates: Templates = DEFAULT, n_questions: int = 4
) -> tuple[SyntheticPair, ...]:
    """Up to `n_questions` questions that the passage answers.

    A reply that cannot be used is asked for again, with what was wrong with it, twice at most.

    Args:
        passage: Title and text are shown to the model.
        templates: Task and styles; the styles are taken in turn, from one that depends on the passage, so that few
            questions a passage still come in all styles.
        n_questions: At least 1.

    Raises:
        ConfigError: `n_questions` is below 1.
        BadReply: The last reply could not be used either.
        LlmError: The endpoint fails.
    """
    return _synthesize(passage, model, templates, n_questions, threading.Event())


def synthesize_many(
    passages: Sequence[Passage],
    model: LanguageModel,
    templates: Templates = DEFAULT,
    n_questions: int = 4,
    *,
    n_workers: int = 4,
    on_done: Callable[[Synthesis], None] | None = None,
) -> Iterator[Synthesis]:
    """`synthesize` of many passages at once; results in the order of the passages.

    A passage that fails is a result with an error, and the others go on. An endpoint that does not work at all is
    given up. When the caller stops early, by an exception or otherwise, no new request is sent, and those on their
    way are waited for.

    Args:
        n_workers: Requests at a time, at least 1.
        on_done: Called with each result as soon as it is there, from another thread, one call at a time.

    Raises:
        ConfigError: `n_questions` or `n_workers` is below 1.
        LlmError: The first 5 passages all failed, or later 5 in a row for another reason than a bad reply.
    """
    if n_workers < 1:
        raise ConfigError(f"n_workers must be at least 1, found {n_workers}")
    _require_questions(n_questions)
    stop, turn = threading.Event(), threading.Lock()

    def work(passage: Passage) -> Synthesis:
        try:
            result = Synthesis(passage.passage_id, _synthesize(passage, model, templates, n_questions, stop), None)
        except LlmError as error:
            result = Synthesis(passage.passage_id, (), error)
        if on_done is not None:
            with turn:
                on_done(result)
        return result

    return _unless_hopeless(_in_order(work, passages, n_workers, stop))


def _in_order(
    work: Callable[[Passage], Synthesis], passages: Sequence[Passage], n_workers: int, stop: threading.Event
) -> Generator[Synthesis, None, None]:
    pool = ThreadPoolExecutor(n_workers, thread_name_prefix="crosstune-llm")
    ahead: deque[Future[Synthesis]] = deque()
    try:
        for passage in passages:
            ahead.append(pool.submit(work, passage))
            if len(ahead) >= 2 * n_workers:  # enough that one slow passage keeps no worker idle
                yield ahead.popleft().result()
        while ahead:
            yield ahead.popleft().result()
    finally:
        stop.set()
        pool.shutdown(wait=True, cancel_futures=True)


def _unless_hopeless(results: Generator[Synthesis, None, None]) -> Iterator[Synthesis]:
    n_failed, works = 0, False
    with closing(results):  # a traceback would keep it, and with it the workers, alive
        for result in results:
            works |= result.error is None
            # Where some passages work, a bad reply is that passage's fault and the endpoint is well.
            well = result.error is None or (works and isinstance(result.error, BadReply))
            n_failed = 0 if well else n_failed + 1
            if result.error is not None and n_failed == _HOPELESS:
                raise result.error
            yield result


def _synthesize(
    passage: Passage, model: LanguageModel, templates: Templates, n_questions: int, stop: threading.Event
) -> tuple[SyntheticPair, ...]:
    _require_questions(n_questions)
    styles = _styles(passage, templates, n_questions)

    def attempt(complaint: str) -> tuple[SyntheticPair, ...]:
        reply = model.ask_json(_messages(passage, templates.task, styles, complaint), _schema(styles), "questions")
        pairs = _pairs(reply, passage, n_questions)
        problem = _problem(pairs, passage.passage_id)
        if problem:
            raise BadReply(model.model, problem)
        return pairs

    complaint = ""
    for _ in range(_N_TRIES - 1):
        try:
            return attempt(complaint)
        except BadReply as error:
            if stop.is_set():
                raise
            # At temperature 0 the same prompt would get the same reply.
            complaint = f"\n\nYour last reply could not be used: {error.problem}."
    return attempt(complaint)


def _require_questions(n_questions: int) -> None:
    if n_questions < 1:
        raise ConfigError(f"n_questions must be at least 1, found {n_questions}")


def _styles(passage: Passage, templates: Templates, n_questions: int) -> list[QuestionStyle]:
    first = int(content_hash(passage.passage_id)[:8], 16)
    return [templates.styles[(first + i) % len(templates.styles)] for i in range(n_questions)]


def _messages(passage: Passage, task: str, styles: Sequence[QuestionStyle], complaint: str) -> list[Message]:
    shown = f"{passage.title}\n\n{passage.text}" if passage.title else passage.text
    wishes = "\n".join(f"{i}. {style.name}: {style.instruction}" for i, style in enumerate(styles, start=1))
    asked = f"{fenced('passage', shown)}\n\nWrite one question of each of these styles:\n{wishes}{complaint}"
    return [{"role": "system", "content": task}, {"role": "user", "content": asked}]


def _schema(styles: Sequence[QuestionStyle]) -> Mapping[str, Any]:
    text = {"type": "string"}
    style = {"type": "string", "enum": list(dict.fromkeys(style.name for style in styles))}
    pair = _object({"question": text, "answer": text, "style": style})
    return _object({"pairs": {"type": "array", "items": pair}})


def _object(properties: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


def _pairs(reply: Mapping[str, Any], passage: Passage, n_questions: int) -> tuple[SyntheticPair, ...]:
    return tuple(
        SyntheticPair(" ".join(pair["question"].split()), pair["answer"].strip(), pair["style"], passage.passage_id)
        for pair in reply["pairs"][:n_questions]
    )


def _problem(pairs: Sequence[SyntheticPair], passage_id: str) -> str | None:
    if not pairs:
        return "there are no questions in it"
    if not all(pair.question and pair.answer for pair in pairs):
        return "a question or an answer is empty"
    # "12" or "refunds" may stand in a question by chance; a longer id with digits gives its passage away.
    is_telling = len(passage_id) >= 6 and re.search(r"\d", passage_id)
    if is_telling and any(passage_id in pair.question for pair in pairs):
        return "a question holds the file name or number of the passage"
    return None
