"""Nearest vectors of a folder's index: exact below 200,000 passages, by a graph (HNSW, usearch) above."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from crosstune.extras import require
from crosstune.retrieval.exact import NOTHING, Nearest, best_of, cosines, nearest

EXACT_BELOW = 200_000
"""Up to which comparing with every vector takes tens of milliseconds; above, a graph is searched."""

_BLOCK = 10_000
# Malkov and Yashunin, "Efficient and robust approximate nearest neighbor search using HNSW graphs" (2018): more
# links and wider searches buy recall with memory and time. Wide enough for 0.95 and more at depth 100.
_LINKS = 32
_WIDTH_ADDING = 200
_WIDTH_SEARCHING = 256

Fetch = Callable[[Sequence[int]], NDArray[np.float32]]


def is_large(n_passages: int) -> bool:
    """Whether a graph is searched."""
    return n_passages >= EXACT_BELOW


class Vectors(Protocol):
    """Unit vectors that can be searched."""

    def nearest(self, vector: NDArray[np.float32], depth: int, allowed: NDArray[np.bool_] | None) -> Nearest:
        """The `depth` places with the highest cosine among those allowed; equal ones in the order of places."""
        ...


class ExactVectors:
    """Compares with every vector.

    Args:
        matrix: (passages, dimensions), rows of length 1.
    """

    def __init__(self, matrix: NDArray[np.float32]) -> None:
        self._matrix = matrix

    def nearest(self, vector: NDArray[np.float32], depth: int, allowed: NDArray[np.bool_] | None) -> Nearest:
        """As `Vectors.nearest`."""
        rough = self._matrix @ vector
        if allowed is not None:
            rough = np.where(allowed, rough, -np.inf)
        return nearest(self._matrix, rough, vector, depth)


class GraphVectors:
    """Searches a graph in which every vector knows some near ones.

    Args:
        path: Where the graph is kept; one that lags behind is brought up to date.
        rows: Key of each vector in the order of places; a key never gets another vector.
        dimensions: Of a vector.
        fetch: Keys to vectors.
    """

    def __init__(self, path: Path, rows: NDArray[np.int64], dimensions: int, fetch: Fetch) -> None:
        self._rows = rows
        self._by_key = np.argsort(rows)
        self._graph = _up_to_date(path, rows, dimensions, fetch)

    def nearest(self, vector: NDArray[np.float32], depth: int, allowed: NDArray[np.bool_] | None) -> Nearest:
        """As `Vectors.nearest`, but some of the nearest can be missed; exact under conditions."""
        if allowed is not None:
            return self._nearest_of(np.flatnonzero(allowed), vector, depth)
        # Asking for more than is needed widens the search.
        keys = self._graph.search(vector, max(2 * depth, _WIDTH_SEARCHING)).keys.astype(np.int64)
        places = np.sort(self._by_key[np.searchsorted(self._rows, keys, sorter=self._by_key)])
        return self._nearest_of(places, vector, depth)

    def _nearest_of(self, places: NDArray[np.intp], vector: NDArray[np.float32], depth: int) -> Nearest:
        if len(places) == 0:
            return NOTHING
        blocks = [places[start : start + _BLOCK] for start in range(0, len(places), _BLOCK)]
        found = [cosines(np.stack(self._graph.get(self._rows[block])), vector) for block in blocks]
        return best_of(places, np.concatenate(found), depth)


def _up_to_date(path: Path, rows: NDArray[np.int64], dimensions: int, fetch: Fetch) -> Any:
    graph = _loaded(path, dimensions, len(rows))
    known = np.asarray(list(graph.keys), dtype=np.int64)
    gone, new = np.setdiff1d(known, rows), np.setdiff1d(rows, known)
    if len(gone):
        graph.remove(gone)
    for start in range(0, len(new), _BLOCK):
        block = new[start : start + _BLOCK]
        graph.add(block, fetch(block.tolist()))
    if len(gone) or len(new):
        temporary = path.with_name(path.name + ".tmp")
        graph.save(temporary)
        os.replace(temporary, path)
    return graph


def _loaded(path: Path, dimensions: int, n_passages: int) -> Any:
    """The graph in the file; an empty one where there is none."""
    usearch = require("usearch.index", extra="search", what=f"searching an index of {n_passages} passages")
    settings = {
        "ndim": dimensions, "metric": "cos", "dtype": "f32", "connectivity": _LINKS,
        "expansion_add": _WIDTH_ADDING, "expansion_search": _WIDTH_SEARCHING,
    }  # fmt: skip
    if path.is_file():
        graph = usearch.Index(**settings)
        try:
            graph.load(path)
        except RuntimeError:
            # Damaged: it holds nothing that the vectors do not give again, so it is built anew and written over.
            return usearch.Index(**settings)
        return graph
    return usearch.Index(**settings)
