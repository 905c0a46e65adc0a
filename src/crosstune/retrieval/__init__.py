"""First stages in process: BM25, dense and hybrid search, and the embeddings that dense search compares."""

from crosstune.retrieval.bm25 import BM25
from crosstune.retrieval.dense import Dense
from crosstune.retrieval.embedder import SentenceTransformerEmbedder
from crosstune.retrieval.embedding_cache import CachedEmbedder
from crosstune.retrieval.hybrid import Hybrid, fuse

__all__ = ["BM25", "CachedEmbedder", "Dense", "Hybrid", "SentenceTransformerEmbedder", "fuse"]
