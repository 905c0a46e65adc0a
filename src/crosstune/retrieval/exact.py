"""Exact search among vectors: found in float32, which is quick, and decided in float64."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from crosstune.retrieval.ranking import best_places

# Cosines are summed in float64 and rounded to what the float32 vectors are good for: the last bits of a
# matrix product depend on its shape, and neither ties nor ranks may hang on the other questions asked.
DECIMALS = 6

Nearest: TypeAlias = tuple[NDArray[np.intp], NDArray[np.float64]]
"""Places of the nearest vectors, best first, and their cosines."""

NOTHING: Nearest = (np.zeros(0, dtype=np.intp), np.zeros(0))


def cosines(rows: NDArray[np.float32], vector: NDArray[np.float32]) -> NDArray[np.float64]:
    """(rows,) cosines of unit vectors (rows, dimensions) with one (dimensions,)."""
    found: NDArray[np.float64] = np.round(rows.astype(np.float64) @ vector.astype(np.float64), DECIMALS)
    return found


def best_of(places: NDArray[np.intp], scores: NDArray[np.float64], depth: int) -> Nearest:
    """The `depth` places with the highest scores; equal ones in the order of places."""
    best = best_places(scores, depth)
    return places[best], scores[best]


def nearest(
    matrix: NDArray[np.float32], rough: NDArray[np.float32], vector: NDArray[np.float32], depth: int
) -> Nearest:
    """The `depth` rows of a matrix with the highest cosine to a vector; equal ones in the order of the rows.

    Args:
        matrix: (passages, dimensions), rows of length 1.
        rough: (passages,) their products with the vector in float32; minus infinity for rows that may not be found.
        vector: (dimensions,) of length 1.
        depth: At least 1.
    """
    n_found = min(depth, int(np.isfinite(rough).sum()))
    if n_found == 0:
        return NOTHING
    # A float32 sum of `dimensions` products that add up to at most 1 is off by less than dimensions * 2^-24. Whatever
    # is nearer than that to the last one found is decided in float64.
    margin = np.float32(2 * matrix.shape[1] * 2.0**-24 + 10.0**-DECIMALS)
    last = np.partition(rough, -n_found)[-n_found]
    near = np.flatnonzero(rough >= last - margin)
    return best_of(near, cosines(matrix[near], vector), n_found)
