"""From a question to what a language model gets to read, and its answer."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from crosstune.checkpoints import load_tokenizer
from crosstune.errors import ConfigError
from crosstune.llm import NO_ANSWER, LanguageModel, answer
from crosstune.protocols import Store
from crosstune.recipes.search import DEPTH, Pipeline, SearchResult
from crosstune.retrieval.packing import Context, Order, pack
from crosstune.types import Condition

Count = Callable[[str], int]


@dataclass(frozen=True, slots=True)
class Grounds:
    """What an answer can be given from.

    Attributes:
        search: All candidates, ranked.
        context: What was packed of them; empty when none reaches the no-answer threshold.
    """

    search: SearchResult
    context: Context


def grounds(
    pipeline: Pipeline,
    question: str,
    budget_tokens: int,
    count_tokens: Count,
    *,
    order: Order = "best",
    depth: int = DEPTH,
    where: Sequence[Condition] = (),
    threshold: float | None = None,
) -> Grounds:
    """Search, and pack the best passages into a budget of tokens.

    Args:
        pipeline: Index and reranker.
        question: Text.
        budget_tokens, count_tokens, order: As of `pack`.
        depth, where: As of `Pipeline.search`.
        threshold: Probability that the best passage must reach for anything to be packed; None for the model's own
            no-answer threshold. Where probabilities are not known, there is no threshold.

    Raises:
        ConfigError: Not a probability; or as of `pack` and `Pipeline.search`.
        StoreError: As of `Pipeline.search`.
    """
    if threshold is not None and not 0 <= threshold <= 1:
        raise ConfigError(f"a threshold is a probability from 0 to 1, found {threshold:g}")
    search = pipeline.search(question, depth=depth, top_n=depth, where=where)
    hits = search.hits
    if threshold is not None:
        hits = tuple(replace(hit, answers=hit.probability is None or hit.probability >= threshold) for hit in hits)
        known = any(hit.probability is not None for hit in hits)
        search = replace(search, hits=hits, answered=any(hit.answers for hit in hits) if known or not hits else None)
    context = pack(hits, budget_tokens, count_tokens, order=order, answers_only=search.answered is False)
    return Grounds(search, context)


def reply(question: str, found: Grounds, model: LanguageModel | None) -> Iterator[str]:
    """The model's answer piece by piece; `NO_ANSWER`, without asking it, when nothing was packed.

    Raises:
        ConfigError: Something was packed, and there is no model.
        LlmError: From the iterator.
    """
    if not found.context.text:
        yield NO_ANSWER
    elif model is None:
        raise ConfigError("an answer needs a language model; name one by OPENAI_BASE_URL or OPENAI_API_KEY")
    else:
        yield from answer(question, found.context.text, model)


def token_counter(store: Store, tokenizer: Path | None = None) -> Count:
    """Counts the tokens of a text.

    Args:
        store: Whose embedder's tokenizer counts where no other is given.
        tokenizer: A tokenizer.json, or the folder it is in.

    Raises:
        ConfigError: No tokenizer.json there, or none that can be read.
    """
    from tokenizers import Tokenizer

    if tokenizer is None:
        found = load_tokenizer(store.spec.embedder_source)
    else:
        file = tokenizer / "tokenizer.json" if tokenizer.is_dir() else tokenizer
        try:
            found = Tokenizer.from_file(str(file))
        except Exception as error:  # The library raises nothing more special.
            raise ConfigError(f"{file} is no tokenizer.json that can be read ({error})") from error
        found.no_truncation()
        found.no_padding()
    return lambda text: len(found.encode(text, add_special_tokens=False).ids)
