"""Searches that are asked for more than once and done once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from crosstune.progress import Progress, silent
from crosstune.protocols import Retriever
from crosstune.types import Candidate, Query, Run


class Remembering:
    """A first stage that searches for a question once at each depth.

    For first stages that take a network or milliseconds a question: choosing among them and joining them asks each
    for the same questions again.

    Args:
        retriever: What searches; its passages must not change meanwhile.
    """

    def __init__(self, retriever: Retriever) -> None:
        self._retriever = retriever
        self._known: dict[tuple[int, str], tuple[Candidate, ...]] = {}  # (depth, query_id)

    @property
    def name(self) -> str:
        """Row name of its ranking."""
        return self._retriever.name

    def retrieve(self, queries: Sequence[Query], depth: int, progress: Progress = silent) -> Run:
        """Rank up to `depth` passages for each query, best first, as `protocols.Retriever`."""
        new = [query for query in queries if (depth, query.query_id) not in self._known]
        run = self._retriever.retrieve(new, depth, progress)
        self._known.update({(depth, query_id): ranked for query_id, ranked in run.candidates.items()})
        return replace(run, candidates={query.query_id: self._known[depth, query.query_id] for query in queries})
