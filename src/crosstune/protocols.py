"""What rooms may ask of each other."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from crosstune.progress import Progress, silent
from crosstune.types import Query, Run, ScoreKind


class Retriever(Protocol):
    """A first stage: proposes candidates for questions. BM25, dense, hybrid, or a live index."""

    @property
    def name(self) -> str:
        """Row name of its ranking, for example "bm25"."""
        ...

    def retrieve(self, queries: Sequence[Query], depth: int, progress: Progress = silent) -> Run:
        """Rank up to `depth` candidates for each query, best first; equal scores in an order that never changes."""
        ...


class Embedder(Protocol):
    """Texts to unit vectors whose dot product is the similarity."""

    @property
    def name(self) -> str:
        """Identity of the model, part of every cache key."""
        ...

    def embed_queries(self, texts: Sequence[str], progress: Progress = silent) -> NDArray[np.float32]:
        """(len(texts), dimensions), rows of length 1."""
        ...

    def embed_passages(self, texts: Sequence[str], progress: Progress = silent) -> NDArray[np.float32]:
        """(len(texts), dimensions), rows of length 1."""
        ...


class Scorer(Protocol):
    """A reranker: reads query and passage together and says how well the passage answers."""

    @property
    def score_kind(self) -> ScoreKind:
        """What the scores mean; logit for every cross-encoder."""
        ...

    def score_pairs(self, pairs: Sequence[tuple[str, str]], progress: Progress = silent) -> NDArray[np.float64]:
        """One score for each (query, passage) pair, in input order; an empty input gives an empty array."""
        ...
