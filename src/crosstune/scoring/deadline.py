"""Scoring as many pairs as a time limit allows."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

FIRST_CHUNK = 8
# Only guides the guess of how long a pair takes: what lies beyond the maximum length is cut and costs nothing.
_CHARACTERS_PER_TOKEN = 4

Pairs = Sequence[tuple[str, str]]


def score_within(
    score: Callable[[Pairs], NDArray[np.float64]],
    pairs: Pairs,
    deadline_s: float,
    max_length: int,
    clock: Callable[[], float] = time.perf_counter,
) -> NDArray[np.float64]:
    """Scores of the first pairs, as many of them as fit into the time.

    The first 8 are scored however long they take, since nothing is known of the speed before. Each following chunk is
    as large as the speed of the one before says still fits, and at most as large as all before it: speed changes
    (the first call of a model is slow, scores from a cache are fast), and a wrong guess then costs no more than about
    the time already spent.

    Args:
        score: Pairs to their scores.
        pairs: In the order in which they are to be reached.
        deadline_s: From now.
        max_length: Most tokens of a pair.
        clock: In seconds.

    Returns:
        (reached,) with reached <= len(pairs).
    """
    costs = [min(len(query) + len(passage), max_length * _CHARACTERS_PER_TOKEN) + 1 for query, passage in pairs]
    start = before = clock()
    scored: list[NDArray[np.float64]] = []
    n_done, size = 0, FIRST_CHUNK
    while size > 0 and n_done < len(pairs):
        end = min(n_done + size, len(pairs))
        scored.append(score(pairs[n_done:end]))
        now = clock()
        seconds_per_cost = (now - before) / sum(costs[n_done:end])
        size = min(end, _n_affordable(costs[end:], seconds_per_cost, start + deadline_s - now))
        n_done, before = end, now
    return np.concatenate(scored) if scored else np.empty(0, np.float64)


def _n_affordable(costs: Sequence[int], seconds_per_cost: float, left_s: float) -> int:
    """How many of the costs, from the first on, fit into the time that is left."""
    if left_s <= 0:
        return 0
    return int(np.searchsorted(np.cumsum(costs) * seconds_per_cost, left_s, side="right"))
