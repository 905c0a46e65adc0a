"""Words that question and passage share: BM25 over any list of texts, as a first stage and as a part of a reranker."""

from crosstune.lexical.index import Cut, LexicalIndex, remembering

__all__ = ["Cut", "LexicalIndex", "remembering"]
