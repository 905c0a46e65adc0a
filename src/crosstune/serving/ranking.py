"""One request through the model. All of it runs in the thread that owns the model."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from crosstune.errors import BundleError
from crosstune.scoring import RankedPassage, Reranker
from crosstune.serving.dialects import Ranked, Ranking, RerankRequest
from crosstune.types import Calibration, Part

# One passage that has the question's words and one that has none, so that every part of a score tells them apart.
_QUESTION = "how do I reset my password"
_PASSAGES = ("how to reset a password", "the moon turns around the earth")
_AS_IT_IS = Calibration(temperature=1.0, bias=0.0, threshold=1.0, precision=0.0, recall=0.0, n=0)


def warm_up(reranker: Reranker) -> None:
    """Rank two passages, so that the first request is not the slow one, and see that the scores are sound.

    Raises:
        BundleError: A score is not finite, or both are the same.
    """
    scores = [item.score for item in reranker.rank(_QUESTION, _PASSAGES)]
    if not all(score is not None and np.isfinite(score) for score in scores) or scores[0] == scores[1]:
        raise BundleError(
            f"{reranker.bundle.path} scores two passages that have nothing in common {scores[0]} and {scores[1]}, so "
            "it cannot rank; tune again, or choose another --runtime or --precision"
        )


def rank(reranker: Reranker, request: RerankRequest, deadline_ms: float | None) -> Ranking:
    """Rank a request's documents.

    Raises:
        ValueError: The model gave a score that is not finite.
    """
    items = reranker.rank(request.query, request.texts, request.first_stage_scores, deadline_ms)
    with_first_stage = request.first_stage_scores is not None
    reached = [item for item in items if item.reranked]
    raw = np.array([item.score for item in reached], np.float64)
    if not np.isfinite(raw).all():
        raise ValueError("a score is not finite")
    n_late = len(items) - len(reached)
    if request.raw_scores:
        scores, late = raw.tolist(), float(raw.min()) - 1.0
    else:
        scores, late = _relevance(reranker, reached, with_first_stage), 0.0
    n_tokens, n_cut = _tokens(reranker, request, reached, with_first_stage)
    return Ranking(
        tuple(Ranked(item.index, score) for item, score in zip(items, scores + [late] * n_late, strict=True)),
        len(reached),
        n_tokens,
        tuple(_warnings(reranker, len(items), n_late, n_cut)),
    )


def _relevance(reranker: Reranker, reached: Sequence[RankedPassage], with_first_stage: bool) -> list[float]:
    """A value from 0 to 1 for each, in ranking order and never rising.

    The calibrated probability where one is known of the whole score that the ranking is by. Where parts of that score
    are missing the probability is of the logit alone and may contradict the ranking: then the score goes through the
    scale of the whole, as if the missing parts added nothing, or through a plain sigmoid where dev gave no scale.
    """
    fusion = reranker.bundle.fusion
    known = [item.probability for item in reached if item.probability is not None]
    if reranker.calibrates_score(with_first_stage) and len(known) == len(reached):
        return known
    scale = _AS_IT_IS if fusion is None or fusion.calibration is None else fusion.calibration
    values: list[float] = scale.probability(np.array([item.score for item in reached], np.float64)).tolist()
    return values


def _tokens(
    reranker: Reranker, request: RerankRequest, reached: Sequence[RankedPassage], with_first_stage: bool
) -> tuple[int, int]:
    """Tokens that the cross-encoder reads of these, and how many of them are cut; 0 without a cross-encoder."""
    if Part.CROSS_ENCODER not in reranker.parts(with_first_stage):
        return 0, 0
    # Tokenised once more, which is little beside scoring.
    read = [request.texts[item.index] for item in reached if item.logit is not None]
    encoded = reranker.scorer.encode([(request.query, text) for text in read])
    return sum(len(pair) for pair in encoded), sum(pair.truncated for pair in encoded)


def _warnings(reranker: Reranker, n: int, n_late: int, n_cut: int) -> list[str]:
    found = [f"ranked without the part {part.value}" for part in reranker.missing]
    if n_late:
        found.append(f"the deadline came before {n_late} of {n} documents; they stand last, unread")
    if n_cut:
        found.append(f"{n_cut} of {n} documents were cut: query and document have {reranker.bundle.max_length} tokens")
    return found
