"""Joining the reranker's logit with the first stage's score."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from crosstune.errors import ConfigError
from crosstune.types import Candidate, Run, ScoreKind

WEIGHTS = tuple(round(0.1 * step, 1) for step in range(11))
"""Weights tried on dev: one parameter on a coarse grid, since a dev set is small."""


def standardised(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    """Scores of one query's candidates with mean 0 and standard deviation 1; all 0 when they are equal."""
    spread = scores.std() if len(scores) else 0.0
    # Rounding alone can make equal scores look spread.
    if spread <= 1e-12 * max(1.0, float(np.abs(scores).max(initial=0.0))):
        return np.zeros_like(scores)
    centred: NDArray[np.float64] = (scores - scores.mean()) / spread
    return centred


def fuse(logits: NDArray[np.float64], first_stage: NDArray[np.float64], weight: float) -> NDArray[np.float64]:
    """Fused scores of one query's candidates.

    Args:
        logits, first_stage: (candidates,) in the same order.
        weight: Of the logits, 0 to 1.
    """
    return weight * standardised(logits) + (1 - weight) * standardised(first_stage)


def rerank(first_stage: Run, logits: Mapping[str, NDArray[np.float64]], name: str, weight: float | None = None) -> Run:
    """Reorder a first stage's candidates.

    Args:
        first_stage: The candidates.
        logits: query_id -> the reranker's logits in the candidates' order.
        name: Row name of the new run.
        weight: Of the logits in the fusion; None for the logits alone.

    Raises:
        ConfigError: A query has not one logit for each candidate.
    """
    reordered = {}
    for query_id, candidates in first_stage.candidates.items():
        scores = logits.get(query_id, np.empty(0))
        if len(scores) != len(candidates):
            raise ConfigError(f"query {query_id!r}: {len(candidates)} candidates but {len(scores)} logits")
        if weight is not None:
            scores = fuse(scores, np.array([candidate.score for candidate in candidates]), weight)
        order = np.argsort(-scores, kind="stable")
        reordered[query_id] = tuple(
            Candidate(candidates[i].passage_id, float(scores[i]), rank) for rank, i in enumerate(order, start=1)
        )
    kind = ScoreKind.LOGIT if weight is None else ScoreKind.FUSED
    return Run(name, first_stage.depth, kind, reordered)


def choose_weight(judge: Callable[[float], float], weights: Sequence[float] = WEIGHTS) -> tuple[float, float]:
    """The weight with the best dev score; of equal ones the one nearest the middle, as the least extreme.

    Args:
        judge: Weight to dev score.
        weights: Weights to try.

    Returns:
        (weight, its dev score).
    """
    scored = [(weight, judge(weight)) for weight in weights]
    best = max(score for _, score in scored)
    return min(((w, s) for w, s in scored if s == best), key=lambda pair: (abs(pair[0] - 0.5), pair[0]))
