"""BM25, the lexical first stage."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from crosstune.language import Language
from crosstune.lexical import LexicalIndex
from crosstune.progress import Progress, silent
from crosstune.retrieval.ranking import as_candidates, best_places, require_depth
from crosstune.types import Candidate, Passage, Query, Run, ScoreKind


class BM25:
    """Ranks passages by the words they share with the question, rare words counting most.

    A passage that shares no term with the question is no candidate, so a ranking can be shorter than the depth
    asked for, and empty. See `LexicalIndex` for the variant.

    Args:
        passages: passage_id -> passage; title and text are indexed.
        language: Picks stemmer and stop words.
    """

    name = "bm25"

    def __init__(self, passages: Mapping[str, Passage], language: Language) -> None:
        self._passage_ids = list(passages)
        self._index = LexicalIndex([passage.full_text for passage in passages.values()], language)

    def retrieve(self, queries: Sequence[Query], depth: int, progress: Progress = silent) -> Run:
        """Rank up to `depth` passages for each query, best first. Equal scores keep corpus order.

        Raises:
            ConfigError: `depth` is below 1.
        """
        require_depth(depth)
        ranked: dict[str, tuple[Candidate, ...]] = {}
        with progress("BM25", len(queries)) as advance:
            for query in queries:
                ranked[query.query_id] = self._rank(query.text, depth)
                advance(1)
        return Run(self.name, depth, ScoreKind.LEXICAL, ranked)

    def _rank(self, text: str, depth: int) -> tuple[Candidate, ...]:
        scores = self._index.scores(text)
        places = best_places(scores, depth)
        return as_candidates(self._passage_ids, scores, places[scores[places] > 0])
