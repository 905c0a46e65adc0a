"""What rooms may ask of each other."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from crosstune.progress import Progress, silent
from crosstune.types import Condition, Found, IndexSpec, Passage, Query, Run, ScoreKind


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


class Store(Protocol):
    """One version of an index of passages with their vectors, in a folder or in Redis.

    What is written is on disk or in the server when the call returns, whole or not at all for each passage. All
    raise `StoreError` when the store cannot be reached or used.
    """

    @property
    def location(self) -> str:
        """Where it is, without a password: what to give `open_store` to come back."""
        ...

    @property
    def spec(self) -> IndexSpec:
        """What it was made with."""
        ...

    @property
    def version(self) -> str:
        """Name of this version; empty for an index that has none."""
        ...

    def count(self) -> int:
        """Number of passages."""
        ...

    def digests(self) -> Mapping[str, str]:
        """passage_id -> digest given to `put` or `update`."""
        ...

    def put(self, passages: Sequence[Passage], vectors: NDArray[np.float32], digests: Sequence[str]) -> None:
        """Write passages with their vectors (passages, dimensions); those that are there are replaced."""
        ...

    def update(self, passages: Sequence[Passage], digests: Sequence[str]) -> None:
        """Write all but the vectors of passages that are there: their id, and so their text, is unchanged."""
        ...

    def remove(self, passage_ids: Sequence[str]) -> None:
        """Forget passages; ids that are not there are passed over."""
        ...

    def publish(self) -> None:
        """Make this version the one that `open_store` gives, in one step, and drop the others."""
        ...

    def search_vector(
        self, vector: NDArray[np.float32], depth: int, where: Sequence[Condition] = ()
    ) -> tuple[Found, ...]:
        """Passages with the highest cosine to a unit vector (dimensions,), best first; all conditions must hold."""
        ...

    def search_text(self, text: str, depth: int, where: Sequence[Condition] = ()) -> tuple[Found, ...]:
        """Passages by BM25 over title and text, best first; those that share no word are not found."""
        ...

    def vectors(self, passage_ids: Sequence[str]) -> NDArray[np.float32]:
        """(passages, dimensions) in the order asked for; an id that is not there is a `StoreError`."""
        ...

    def passages(self) -> Iterator[Passage]:
        """All passages, ordered by document and position."""
        ...

    def close(self) -> None:
        """Release files and connections."""
        ...
