"""Models that turn one text into one vector: first stages search with them, training tunes them, rerankers add them."""

from crosstune.bi_encoder.cache import CachedEmbedder
from crosstune.bi_encoder.embedder import SentenceTransformerEmbedder
from crosstune.bi_encoder.lean_encoder import LeanEncoder, unit
from crosstune.bi_encoder.loading import load_bi_encoder, save_two_sides, side_of, transformer_of, without_dropout
from crosstune.bi_encoder.text_encoder import TextEncoder

__all__ = [
    "CachedEmbedder",
    "LeanEncoder",
    "SentenceTransformerEmbedder",
    "TextEncoder",
    "load_bi_encoder",
    "save_two_sides",
    "side_of",
    "transformer_of",
    "unit",
    "without_dropout",
]
