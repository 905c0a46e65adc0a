"""Dense retrieval: exact cosine search over all passages."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from crosstune.errors import ConfigError
from crosstune.progress import Progress, silent
from crosstune.protocols import Embedder
from crosstune.retrieval.exact import cosines, nearest
from crosstune.retrieval.ranking import require_depth
from crosstune.types import Candidate, Passage, Query, Run, ScoreKind

# Products of this many (query, passage) pairs are held at once: 32 MiB of float32.
_PAIRS_PER_BLOCK = 1 << 23


class Dense:
    """Ranks passages by the cosine of their vector with the question's.

    Every passage is compared, nothing is approximated: a ranking is as long as the depth asked for, or as the
    corpus.

    Args:
        passages: passage_id -> passage; title and text are embedded, here and now.
        embedder: Text to unit vectors.
        progress: Reports the embedding of the passages.
        name: Row name of its ranking.
        vectors: (passages, dimensions) where the embedder's vectors are known already.

    Attributes:
        vectors: (passages, dimensions) in the order of the passages.
    """

    def __init__(
        self,
        passages: Mapping[str, Passage],
        embedder: Embedder,
        progress: Progress = silent,
        name: str = "dense",
        vectors: NDArray[np.float32] | None = None,
    ) -> None:
        self.name = name
        self._passage_ids = list(passages)
        self._places = {passage_id: place for place, passage_id in enumerate(self._passage_ids)}
        self._embedder = embedder
        if vectors is None:
            vectors = embedder.embed_passages([passage.full_text for passage in passages.values()], progress)
        self.vectors = vectors

    def retrieve(self, queries: Sequence[Query], depth: int, progress: Progress = silent) -> Run:
        """Rank up to `depth` passages for each query, best first. Equal scores keep corpus order.

        Raises:
            ConfigError: `depth` is below 1.
        """
        require_depth(depth)
        vectors = self._query_vectors(queries, progress)  # (queries, dimensions)
        ranked: dict[str, tuple[Candidate, ...]] = {}
        step = max(1, _PAIRS_PER_BLOCK // max(1, len(self._passage_ids)))
        for start in range(0, len(queries), step):
            block = slice(start, start + step)
            rough = vectors[block] @ self.vectors.T  # (queries, passages)
            for query, vector, row in zip(queries[block], vectors[block], rough, strict=True):
                places, scores = nearest(self.vectors, row, vector, depth)
                ranked[query.query_id] = tuple(
                    Candidate(self._passage_ids[place], score, rank)
                    for rank, (place, score) in enumerate(zip(places.tolist(), scores.tolist(), strict=True), start=1)
                )
        return Run(self.name, depth, ScoreKind.SIMILARITY, ranked)

    def similarity(
        self, queries: Sequence[Query], progress: Progress = silent
    ) -> Callable[[str, Sequence[str]], NDArray[np.float64]]:
        """A function (query_id, passage_ids) -> cosines, for the queries given here.

        The judge of false negatives in mining, whatever the first stage is.
        """
        vectors = self._query_vectors(queries, progress)
        rows = {query.query_id: row for row, query in enumerate(queries)}

        def of_query(query_id: str, passage_ids: Sequence[str]) -> NDArray[np.float64]:
            if query_id not in rows:
                raise ConfigError(f"no vector for query {query_id!r}: name it when asking for the similarity")
            places = [self._places[passage_id] for passage_id in passage_ids]
            return cosines(self.vectors[places], vectors[rows[query_id]])

        return of_query

    def _query_vectors(self, queries: Sequence[Query], progress: Progress) -> NDArray[np.float32]:
        if not queries:
            return np.zeros((0, self.vectors.shape[1]), dtype=np.float32)
        return self._embedder.embed_queries([query.text for query in queries], progress)
