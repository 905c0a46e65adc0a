"""Hybrid retrieval: several rankings joined by reciprocal rank fusion."""

from __future__ import annotations

import math
from collections.abc import Sequence

from crosstune.errors import ConfigError
from crosstune.progress import Progress, silent
from crosstune.protocols import Retriever
from crosstune.retrieval.ranking import require_depth
from crosstune.types import Candidate, Query, Run, ScoreKind

RRF_K = 60
"""The constant of Cormack, Clarke and Buettcher, "Reciprocal Rank Fusion outperforms Condorcet and individual
Rank Learning Methods" (SIGIR 2009): it keeps the first rank of one side from deciding alone."""


def fuse(runs: Sequence[Run], depth: int, name: str = "hybrid") -> Run:
    """Join rankings: a passage scores the sum of 1 / (60 + its rank) over the rankings that hold it.

    Only ranks count, so scores of different kinds can be joined. Equal sums are ordered by rank in the first
    ranking, then in the second and so on; a passage that a ranking does not hold comes last there.

    Args:
        runs: At least one; all queries of all of them are answered.
        depth: Most candidates a query keeps.
        name: Row name of the joined ranking.
    """
    query_ids = dict.fromkeys(query_id for run in runs for query_id in run.candidates)
    return Run(
        name,
        depth,
        ScoreKind.FUSED,
        {query_id: _fuse([run.candidates.get(query_id, ()) for run in runs], depth) for query_id in query_ids},
    )


def _fuse(rankings: Sequence[Sequence[Candidate]], depth: int) -> tuple[Candidate, ...]:
    ranks: dict[str, list[float]] = {}
    for place, ranking in enumerate(rankings):
        for candidate in ranking:
            ranks.setdefault(candidate.passage_id, [math.inf] * len(rankings))[place] = candidate.rank
    # fsum: the sum must not depend on the order of the rankings, or ties would come apart by rounding.
    scores = {passage_id: math.fsum(1 / (RRF_K + rank) for rank in of) for passage_id, of in ranks.items()}
    order = sorted(ranks, key=lambda passage_id: (-scores[passage_id], ranks[passage_id]))[:depth]
    return tuple(Candidate(passage_id, scores[passage_id], rank) for rank, passage_id in enumerate(order, start=1))


class Hybrid:
    """Joins first stages by reciprocal rank fusion.

    Each side is asked for `depth` candidates and the joined ranking is cut to `depth`: a passage needs to be
    in the top `depth` of at least one side.

    Args:
        retrievers: At least two; the first one's order decides between equal sums.
        name: Row name of its ranking.

    Raises:
        ConfigError: Fewer than two retrievers.
    """

    def __init__(self, retrievers: Sequence[Retriever], name: str = "hybrid") -> None:
        self.name = name
        if len(retrievers) < 2:
            raise ConfigError(f"a hybrid joins at least two first stages, found {len(retrievers)}")
        self._retrievers = tuple(retrievers)

    def retrieve(self, queries: Sequence[Query], depth: int, progress: Progress = silent) -> Run:
        """Rank up to `depth` passages for each query, best first.

        Raises:
            ConfigError: `depth` is below 1.
        """
        require_depth(depth)
        return fuse([side.retrieve(queries, depth, progress) for side in self._retrievers], depth, self.name)
