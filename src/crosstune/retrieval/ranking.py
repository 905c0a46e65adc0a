"""From one score per passage to a ranking."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from crosstune.errors import ConfigError
from crosstune.types import Candidate


def require_depth(depth: int) -> None:
    """Refuse a depth that can hold no candidate.

    Raises:
        ConfigError: `depth` is below 1.
    """
    if depth < 1:
        raise ConfigError(f"depth is {depth}; a first stage returns at least 1 candidate: give 1 or more")


def best_places(scores: NDArray[np.floating], depth: int) -> NDArray[np.intp]:
    """Places of the `depth` highest scores, best first; equal scores in the order of the array.

    The cut is exact: of passages that tie at the last rank the earliest ones are kept, so that the ranking to
    depth 50 always begins with the ranking to depth 10.
    """
    if depth >= len(scores):
        return np.argsort(-scores, kind="stable")
    last = np.partition(scores, -depth)[-depth]  # the lowest score that is still in
    above = np.flatnonzero(scores > last)
    level = np.flatnonzero(scores == last)[: depth - len(above)]
    inside = np.sort(np.concatenate([above, level]))
    return inside[np.argsort(-scores[inside], kind="stable")]


def as_candidates(
    passage_ids: Sequence[str], scores: NDArray[np.floating], places: NDArray[np.intp]
) -> tuple[Candidate, ...]:
    """The passages at `places` as candidates with ranks from 1."""
    return tuple(
        Candidate(passage_ids[place], float(scores[place]), rank) for rank, place in enumerate(places.tolist(), start=1)
    )
