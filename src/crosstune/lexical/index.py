"""BM25 scores of texts, by bm25s."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Sequence
from functools import lru_cache

# bm25s tries JAX, where it is installed, as soon as it is imported, and JAX would take three quarters of a GPU's memory
# for good, which training needs.
os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")

import bm25s
import numpy as np
from numpy.typing import NDArray

from crosstune.language import Language
from crosstune.lexical.tokens import Tokenizer

# Lucene's own defaults, which OpenSearch, Elasticsearch and Redis users know. Robertson and Zaragoza, "The
# Probabilistic Relevance Framework: BM25 and Beyond" (2009), give 1.2 to 2 and 0.5 to 0.8 as reasonable.
K1 = 1.2
B = 0.75


# It sets itself to DEBUG when it is imported, and would speak wherever a program turns logging on.
logging.getLogger("bm25s").setLevel(logging.WARNING)

Cut = Callable[[str], list[str]]
# Passages whose terms are kept, those used last. Cutting is nearly all the work of scoring a few dozen candidates.
_MOST_KEPT = 20_000


def remembering(language: Language) -> Cut:
    """A tokenizer that keeps what it has cut."""
    return lru_cache(_MOST_KEPT)(Tokenizer(language))


class LexicalIndex:
    """BM25 scores of a list of texts for a question.

    Lucene's variant (its idf is never negative), k1 1.2, b 0.75. A text that shares no term with the question scores
    0. A question that consists of stop words only ("What is it?") is matched with stop words counted.

    Args:
        texts: What is scored.
        language: Picks stemmer and stop words.
        cut: Text to terms, from `remembering`, where the same texts come again and again.
    """

    def __init__(self, texts: Sequence[str], language: Language, cut: Cut | None = None) -> None:
        self._texts = list(texts)
        self._language = language
        self._index = _Index(self._texts, cut or Tokenizer(language))
        self._index_of_all_words: _Index | None = None

    def scores(self, question: str) -> NDArray[np.float32]:
        """(texts,) in input order."""
        terms = self._index.tokenizer(question)
        if terms:
            return self._index.scores(terms)
        if self._index_of_all_words is None:  # built when the first such question comes: most data have none
            tokenizer = Tokenizer(self._language, drop_stop_words=False)
            self._index_of_all_words = _Index(self._texts, tokenizer)
        return self._index_of_all_words.scores(self._index_of_all_words.tokenizer(question))


class _Index:
    """Scores of all texts for a list of terms."""

    def __init__(self, texts: Sequence[str], tokenizer: Cut) -> None:
        self.tokenizer = tokenizer
        self._n_texts = len(texts)
        # Numbered in order of first use: bm25s would number them by set order, which changes from run to run.
        self._numbers: dict[str, int] = {}
        numbers = self._numbers
        ids = [[numbers.setdefault(term, len(numbers)) for term in tokenizer(text)] for text in texts]
        self._bm25 = bm25s.BM25(method="lucene", k1=K1, b=B)
        if numbers:
            self._bm25.index((ids, dict(numbers)), show_progress=False)

    def scores(self, terms: Sequence[str]) -> NDArray[np.float32]:
        """One score per text, in input order; 0 where no term is shared."""
        known = [self._numbers[term] for term in terms if term in self._numbers]
        if not known:
            return np.zeros(self._n_texts, dtype=np.float32)
        scores: NDArray[np.float32] = self._bm25.get_scores_from_ids(known)
        return scores
