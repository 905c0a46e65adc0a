"""First stages in process: BM25, dense and hybrid search."""

from crosstune.retrieval.bm25 import BM25
from crosstune.retrieval.dense import Dense
from crosstune.retrieval.hybrid import Hybrid, fuse
from crosstune.retrieval.remembering import Remembering

__all__ = ["BM25", "Dense", "Hybrid", "Remembering", "fuse"]
