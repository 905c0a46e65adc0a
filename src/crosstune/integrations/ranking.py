"""What every adapter does: rank, and keep the best."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias, cast

from crosstune.errors import ConfigError
from crosstune.scoring import RankedPassage, Reranker

Model: TypeAlias = str | Path | Reranker
"""A model folder, the run folder it is in, or a model that is loaded already."""

Threshold: TypeAlias = float | Literal["answers"] | None
"""Least calibrated probability of what is kept, 0 to 1; "answers" is the model's own; None keeps all."""


@dataclass(frozen=True, slots=True)
class Ranked:
    """One text of a ranking.

    Attributes:
        index: Place in the input, from 0.
        rank: 1 is best.
        score: What the ranking is by.
        probability: Calibrated probability that it answers; None where it is not known.
        relevance: The probability where it is that of the score, else the score: it always falls with the rank.
    """

    index: int
    rank: int
    score: float
    probability: float | None
    relevance: float


def opened(model: Model) -> Reranker:
    """The model, loaded.

    Raises:
        BundleError: Not a crosstune model folder.
    """
    return model if isinstance(model, Reranker) else Reranker.load(model)


def best(
    reranker: Reranker,
    query: str,
    texts: Sequence[str],
    top_n: int | None = None,
    threshold: Threshold = None,
    first_stage_scores: Sequence[float] | None = None,
) -> list[Ranked]:
    """The best texts for a question in the order of `Reranker.rank`.

    Args:
        top_n: Most texts; None for all that reach the threshold.
        first_stage_scores: As of `Reranker.rank`.

    Raises:
        ConfigError: The question is no text, `top_n` or `threshold` is out of range, or there is a threshold and no
            probability to hold it against.
    """
    check(top_n, threshold)
    if not isinstance(query, str):
        raise ConfigError(f"the question must be a text, found {type(query).__name__}")
    if not texts:
        return []
    found = reranker.rank(query, texts, first_stage_scores)
    calibrated = reranker.calibrates_score(first_stage_scores is not None)
    kept = _reaching(reranker, found, threshold)[:top_n]
    return [_ranked(passage, calibrated) for passage in kept]


def probabilities(reranker: Reranker, query: str, texts: Sequence[str]) -> list[float]:
    """Calibrated probability of each text by the cross-encoder alone, so that it does not depend on the others.

    Raises:
        BundleError: The model has no cross-encoder.
    """
    found: list[float] = reranker.probabilities([(query, text) for text in texts]).tolist()
    return found


def complete(scores: Sequence[float | None]) -> list[float] | None:
    """First-stage scores, when every text has a finite one: they are standardised over all, so a gap spoils them."""
    known = [score for score in scores if score is not None and math.isfinite(score)]
    return known if len(known) == len(scores) else None


def check(top_n: int | None, threshold: Threshold) -> None:
    """Refuse what no ranking can be cut by.

    Raises:
        ConfigError: `top_n` is below 1, or the threshold is no probability.
    """
    if top_n is not None and top_n < 1:
        raise ConfigError(f"at least 1 document must be returned, found {top_n}; None returns all")
    if threshold is None or threshold == "answers":
        return
    if isinstance(threshold, str) or not 0 <= threshold <= 1:
        raise ConfigError(f'a threshold is a probability from 0 to 1, "answers" or None, found {threshold!r}')


def _reaching(reranker: Reranker, found: list[RankedPassage], threshold: Threshold) -> list[RankedPassage]:
    if threshold is None:
        return found
    if any(passage.probability is None for passage in found):
        lacking = "; ".join(reranker.missing.values()) or "its score was calibrated with a part that is not given here"
        raise ConfigError(f"a threshold needs probabilities and this ranking has none: {lacking}; leave it out")
    if threshold == "answers":
        return [passage for passage in found if passage.answers]
    return [passage for passage in found if passage.probability is not None and passage.probability >= threshold]


def _ranked(passage: RankedPassage, calibrated: bool) -> Ranked:
    score = cast(float, passage.score)  # None only with a deadline, and there is none here
    relevance = passage.probability if calibrated and passage.probability is not None else score
    return Ranked(passage.index, passage.rank, score, passage.probability, relevance)
