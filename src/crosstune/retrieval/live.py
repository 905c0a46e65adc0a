"""A first stage over an index: vector, text or hybrid search in a folder or in Redis."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from crosstune.progress import Progress, silent
from crosstune.protocols import Embedder, Store
from crosstune.retrieval.hybrid import fuse
from crosstune.retrieval.ranking import require_depth
from crosstune.types import Candidate, Condition, Found, Passage, Query, Run, ScoreKind

Mode: TypeAlias = Literal["vector", "text", "hybrid"]
MODES: tuple[Mode, ...] = ("vector", "text", "hybrid")
# Rows of a table are named after the kind of search, wherever it runs.
_ROW_NAMES = {"vector": "dense", "text": "bm25", "hybrid": "hybrid"}
_SCORE_KINDS = {"vector": ScoreKind.SIMILARITY, "text": ScoreKind.LEXICAL, "hybrid": ScoreKind.FUSED}


@dataclass(frozen=True, slots=True)
class Retrieved:
    """What an index proposes for a question.

    Attributes:
        found: Best first.
        embedding_s, searching_s: Seconds of embedding the question, and of the index's own work.
    """

    found: tuple[Found, ...]
    embedding_s: float
    searching_s: float


class LiveIndex:
    """The index that users search, as a first stage.

    Hybrid search joins vector and text search by reciprocal rank fusion, each side asked for `depth` passages, as
    `Hybrid` does in process.

    Args:
        store: From `open_store`.
        embedder: The one that the index was made with; it is not asked in text mode.
        mode: "vector", "text" or "hybrid".
        where: Conditions on the metadata that every passage must meet.
    """

    def __init__(self, store: Store, embedder: Embedder, mode: Mode, where: Sequence[Condition] = ()) -> None:
        self._store, self._embedder, self._mode, self._where = store, embedder, mode, tuple(where)

    @property
    def name(self) -> str:
        """Row name of its ranking: dense, bm25 or hybrid."""
        return _ROW_NAMES[self._mode]

    def find(self, question: str, depth: int) -> Retrieved:
        """Passages for one question, best first.

        Raises:
            ConfigError: `depth` is below 1.
            StoreError: The index cannot be searched.
        """
        require_depth(depth)
        start = time.perf_counter()
        vectors = self._vectors([question], silent)
        embedded = time.perf_counter()
        found = self._search(question, None if vectors is None else vectors[0], depth)
        return Retrieved(found, embedded - start, time.perf_counter() - embedded)

    def retrieve(self, queries: Sequence[Query], depth: int, progress: Progress = silent) -> Run:
        """Rank up to `depth` passages for each query, best first, as `protocols.Retriever`."""
        require_depth(depth)
        vectors = self._vectors([query.text for query in queries], progress)
        ranked: dict[str, tuple[Candidate, ...]] = {}
        with progress(f"Searching the index ({self.name})", len(queries)) as advance:
            for place, query in enumerate(queries):
                found = self._search(query.text, None if vectors is None else vectors[place], depth)
                ranked[query.query_id] = _candidates(found)
                advance(1)
        return Run(self.name, depth, _SCORE_KINDS[self._mode], ranked)

    def _vectors(self, questions: Sequence[str], progress: Progress) -> NDArray[np.float32] | None:
        """(questions, dimensions); None in text mode."""
        return None if self._mode == "text" else self._embedder.embed_queries(questions, progress)

    def _search(self, question: str, vector: NDArray[np.float32] | None, depth: int) -> tuple[Found, ...]:
        sides: list[tuple[Found, ...]] = []
        if vector is not None:
            sides.append(self._store.search_vector(vector, depth, self._where))
        if self._mode != "vector":
            sides.append(self._store.search_text(question, depth, self._where))
        return sides[0] if len(sides) == 1 else _joined(sides, depth)


def _candidates(found: Sequence[Found]) -> tuple[Candidate, ...]:
    return tuple(Candidate(item.passage.passage_id, item.score, rank) for rank, item in enumerate(found, start=1))


def _joined(sides: Sequence[Sequence[Found]], depth: int) -> tuple[Found, ...]:
    """Reciprocal rank fusion of rankings of one question."""
    passages: dict[str, Passage] = {item.passage.passage_id: item.passage for side in sides for item in side}
    runs = [Run("side", depth, ScoreKind.FUSED, {"": _candidates(side)}) for side in sides]
    return tuple(Found(passages[c.passage_id], c.score) for c in fuse(runs, depth).candidates[""])
