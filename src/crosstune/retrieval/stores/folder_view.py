"""What a folder's index holds in memory to be searched: vectors, words and the columns of conditions."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from crosstune.language import language_of
from crosstune.lexical import LexicalIndex
from crosstune.retrieval.exact import Nearest
from crosstune.retrieval.ranking import best_places
from crosstune.retrieval.stores.conditions import Column
from crosstune.retrieval.stores.folder_files import vectors_of
from crosstune.retrieval.stores.vectors import ExactVectors, GraphVectors, Vectors, is_large
from crosstune.types import Condition, IndexSpec

Ranked = list[tuple[int, float]]
"""Row numbers with their scores, best first."""


class Words:
    """BM25 over passages.

    Args:
        texts: The terms of each passage, parted by blanks.
        code: Language they were cut by.
    """

    def __init__(self, texts: Sequence[str], code: str) -> None:
        self._index = LexicalIndex(texts, language_of(code), str.split)

    def best(self, terms: Sequence[str], depth: int, allowed: NDArray[np.bool_] | None) -> Nearest:
        """The places that share terms, best first, and their scores."""
        scores = self._index.scores(" ".join(terms)).astype(np.float64)
        if allowed is not None:
            scores = np.where(allowed, scores, 0.0)
        places = best_places(scores, depth)
        places = places[scores[places] > 0]
        return places, scores[places]


class View:
    """A version as it was when this was made. Each part is loaded when it is first asked for.

    Places are in the order of passage ids, by which equal scores are ordered.

    Args:
        connection: To the version's file.
        spec: Of the version.
        graph: Where the graph of a large index is kept.
    """

    def __init__(self, connection: sqlite3.Connection, spec: IndexSpec, graph: Path) -> None:
        self._connection = connection
        self._spec = spec
        self._graph = graph
        ordered = connection.execute("SELECT row FROM passages ORDER BY passage_id").fetchall()
        self._rows = np.array([row for (row,) in ordered], dtype=np.int64)
        self._vectors: Vectors | None = None
        self._words: Words | None = None
        self._columns: dict[str, Column] | None = None

    def vectors(self) -> Vectors:
        """The vectors, exact or as a graph."""
        if self._vectors is None:
            dimensions = self._spec.dimensions
            if not is_large(len(self._rows)):
                matrix = vectors_of(self._connection, self._rows.tolist(), dimensions)
                self._vectors = ExactVectors(matrix)
            else:
                connection = self._connection
                self._vectors = GraphVectors(
                    self._graph, self._rows, dimensions, lambda rows: vectors_of(connection, rows, dimensions)
                )
        return self._vectors

    def words(self) -> Words:
        """The words of title and text."""
        if self._words is None:
            cells = self._connection.execute("SELECT terms FROM passages ORDER BY passage_id")
            self._words = Words([terms for (terms,) in cells], self._spec.language)
        return self._words

    def allowed(self, where: Sequence[Condition]) -> NDArray[np.bool_] | None:
        """(places,) where all conditions hold; None without conditions."""
        if not where:
            return None
        if self._columns is None:
            self._columns = self._read_columns()
        allowed = np.ones(len(self._rows), dtype=np.bool_)
        for condition in where:
            allowed &= self._columns[condition.field].meets(condition)
        return allowed

    def ranked(self, found: Nearest) -> Ranked:
        """Places and scores as row numbers and scores."""
        places, scores = found
        return list(zip(self._rows[places].tolist(), scores.tolist(), strict=True))

    def _read_columns(self) -> dict[str, Column]:
        values: dict[str, list[str | None]] = {name: [] for name in self._spec.fields}
        for (metadata,) in self._connection.execute("SELECT metadata FROM passages ORDER BY passage_id"):
            content = json.loads(metadata)
            for name, column in values.items():
                column.append(content.get(name))
        return {name: Column(values[name], kind) for name, kind in self._spec.fields.items()}
