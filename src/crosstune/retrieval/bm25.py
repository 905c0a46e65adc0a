"""BM25, the lexical first stage, by bm25s."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import bm25s
import numpy as np
from numpy.typing import NDArray

from crosstune.language import Language
from crosstune.progress import Progress, silent
from crosstune.retrieval.ranking import as_candidates, best_places, require_depth
from crosstune.retrieval.tokens import Tokenizer
from crosstune.types import Candidate, Passage, Query, Run, ScoreKind

# Lucene's own defaults, which OpenSearch, Elasticsearch and Redis users know. Robertson and Zaragoza, "The
# Probabilistic Relevance Framework: BM25 and Beyond" (2009), give 1.2 to 2 and 0.5 to 0.8 as reasonable.
K1 = 1.2
B = 0.75


class BM25:
    """Ranks passages by the words they share with the question, rare words counting most.

    Lucene's variant (its idf is never negative), k1 1.2, b 0.75. A passage that shares no term with the
    question scores 0 and is no candidate, so a ranking can be shorter than the depth asked for, and empty. A
    question that consists of stop words only ("What is it?") is matched with stop words counted.

    Args:
        passages: passage_id -> passage; title and text are indexed.
        language: Picks stemmer and stop words.
    """

    name = "bm25"

    def __init__(self, passages: Mapping[str, Passage], language: Language) -> None:
        self._texts = [passage.full_text for passage in passages.values()]
        self._passage_ids = list(passages)
        self._language = language
        self._index = _Index(self._texts, Tokenizer(language))
        self._index_of_all_words: _Index | None = None

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
        scores = self._scores(text)
        places = best_places(scores, depth)
        return as_candidates(self._passage_ids, scores, places[scores[places] > 0])

    def _scores(self, text: str) -> NDArray[np.float32]:
        terms = self._index.tokenizer(text)
        if terms:
            return self._index.scores(terms)
        if self._index_of_all_words is None:  # built when the first such question comes: most data have none
            tokenizer = Tokenizer(self._language, drop_stop_words=False)
            self._index_of_all_words = _Index(self._texts, tokenizer)
        return self._index_of_all_words.scores(self._index_of_all_words.tokenizer(text))


class _Index:
    """Scores of all passages for a list of terms."""

    def __init__(self, texts: Sequence[str], tokenizer: Tokenizer) -> None:
        self.tokenizer = tokenizer
        self._n_passages = len(texts)
        # Numbered in order of first use: bm25s would number them by set order, which changes from run to run.
        self._numbers: dict[str, int] = {}
        numbers = self._numbers
        ids = [[numbers.setdefault(term, len(numbers)) for term in tokenizer(text)] for text in texts]
        self._bm25 = bm25s.BM25(method="lucene", k1=K1, b=B)
        if numbers:
            self._bm25.index((ids, dict(numbers)), show_progress=False)

    def scores(self, terms: Sequence[str]) -> NDArray[np.float32]:
        """One score per passage, in corpus order; 0 where no term is shared."""
        known = [self._numbers[term] for term in terms if term in self._numbers]
        if not known:
            return np.zeros(self._n_passages, dtype=np.float32)
        scores: NDArray[np.float32] = self._bm25.get_scores_from_ids(known)
        return scores
