"""From a question to the passages that answer it: the index's candidates, reranked."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

import numpy as np

from crosstune.bi_encoder import SentenceTransformerEmbedder
from crosstune.bundle import ModelBundle, load_bundle
from crosstune.checkpoints import EMBEDDED, resolve
from crosstune.errors import ConfigError, StoreError
from crosstune.protocols import Embedder, Store
from crosstune.retrieval.live import MODES, LiveIndex, Mode
from crosstune.retrieval.stores import ForeignRedisStore, ForeignSpec, is_foreign, open_store
from crosstune.scoring import RankedPassage, Reranker
from crosstune.types import Condition, Found, Hit, Part

SearchMode: TypeAlias = Literal["auto", "vector", "text", "hybrid"]
DEPTH, TOP_N = 50, 5
# How many passages of an index of another program are embedded again, to see that its vectors are from this model, and
# the mean cosine that they must pass: the same model gives almost 1, also at another precision or with another prompt.
_PROBES, _LEAST_AGREEMENT = 20, 0.8


@dataclass(frozen=True, slots=True)
class SearchResult:
    """What a search returns.

    Attributes:
        question: As asked.
        mode: "vector", "text" or "hybrid".
        hits: Best first.
        answered: Whether a passage among all candidates reaches the no-answer threshold; None where probabilities
            are not known.
        ranked_by: Parts of the reranker's score; empty without a reranker.
        missing: Recommended part -> why it is left out.
        n_candidates: Passages that the index proposed.
        timings_ms: "embed", "search" and "rerank" in milliseconds.
    """

    question: str
    mode: Mode
    hits: tuple[Hit, ...]
    answered: bool | None
    ranked_by: tuple[Part, ...]
    missing: Mapping[Part, str]
    n_candidates: int
    timings_ms: Mapping[str, float]


class Pipeline:
    """An index, the embedder that it was made with, and a reranker.

    Args:
        store: From `open_store`.
        embedder: The one that the index was made with.
        reranker: None for the index's own order.
        mode: "vector", "text", "hybrid", or "auto": what the reranker was judged over, and hybrid without one.

    Example:
        `Pipeline(store, embedder, Reranker.load("runs/mine")).search("How do refunds work?").hits[0].passage.text`
    """

    def __init__(
        self, store: Store, embedder: Embedder, reranker: Reranker | None = None, mode: SearchMode = "auto"
    ) -> None:
        if mode != "auto" and mode not in MODES:
            raise ConfigError(f"search mode is {mode!r}; choose auto, {', '.join(MODES)}")
        self.store, self.embedder, self.reranker = store, embedder, reranker
        identity = None if reranker is None else reranker.embedder_identity
        # An index embedded with the model's own bi-encoder has the passage vectors that the score needs.
        self._shares_vectors = identity is not None and identity == store.spec.embedder
        if self._shares_vectors and reranker is not None and reranker.searches_tuned and reranker.embedder is not None:
            self.embedder = reranker.embedder  # which may embed questions otherwise than the index's own
        self.mode: Mode = judged_mode(None if reranker is None else reranker.bundle) if mode == "auto" else mode

    def search(
        self,
        question: str,
        *,
        depth: int = DEPTH,
        top_n: int = TOP_N,
        where: Sequence[Condition] = (),
        answers_only: bool = False,
        deadline_ms: float | None = None,
    ) -> SearchResult:
        """Find passages for a question.

        Args:
            question: Text.
            depth: Candidates that the index proposes and the reranker reads.
            top_n: Passages to return.
            where: Conditions on the metadata.
            answers_only: Return only passages whose probability reaches the no-answer threshold.
            deadline_ms: As of `Reranker.rank`.

        Raises:
            ConfigError: A count is below 1, a deadline not above 0, or `answers_only` without a reranker.
            StoreError: The index cannot be searched.
        """
        if top_n < 1:
            raise ConfigError(f"top_n is {top_n}; at least 1 passage must be asked for")
        if answers_only and self.reranker is None:
            raise ConfigError("a threshold needs a reranker's probabilities; give a tuned model")
        retrieved = LiveIndex(self.store, self.embedder, self.mode, where).find(question, depth)
        start = time.perf_counter()
        hits, answered, parts = self._reranked(question, retrieved.found, deadline_ms)
        seconds = (retrieved.embedding_s, retrieved.searching_s, time.perf_counter() - start)
        kept = [hit for hit in hits if hit.answers] if answers_only else hits
        return SearchResult(
            question=question,
            mode=self.mode,
            hits=tuple(kept[:top_n]),
            answered=answered,
            ranked_by=parts,
            missing={} if self.reranker is None else dict(self.reranker.missing),
            n_candidates=len(retrieved.found),
            timings_ms=dict(zip(("embed", "search", "rerank"), (round(1000 * s, 2) for s in seconds), strict=True)),
        )

    async def asearch(
        self,
        question: str,
        *,
        depth: int = DEPTH,
        top_n: int = TOP_N,
        where: Sequence[Condition] = (),
        answers_only: bool = False,
        deadline_ms: float | None = None,
    ) -> SearchResult:
        """`search` in a thread: the event loop goes on while the index and the models work."""
        return await asyncio.to_thread(
            self.search, question, depth=depth, top_n=top_n, where=where, answers_only=answers_only,
            deadline_ms=deadline_ms,
        )  # fmt: skip

    def close(self) -> None:
        """Release the index."""
        self.store.close()

    def _reranked(
        self, question: str, found: Sequence[Found], deadline_ms: float | None
    ) -> tuple[list[Hit], bool | None, tuple[Part, ...]]:
        """All candidates in their new order, whether one answers, and what they were ordered by."""
        if self.reranker is None:
            ranks = enumerate(found, start=1)
            return [Hit(item.passage, rank, rank, item.score, None, None, False) for rank, item in ranks], None, ()
        texts = [item.passage.full_text for item in found]
        if found and self._shares_vectors:
            self.reranker.remember(texts, self.store.vectors([item.passage.passage_id for item in found]))
        ranked = self.reranker.rank(question, texts, [item.score for item in found], deadline_ms)
        known = any(item.probability is not None for item in ranked)
        answered = any(item.answers for item in ranked) if known or not ranked else None
        return [_hit(item, found) for item in ranked], answered, self.reranker.parts(True)


def _hit(item: RankedPassage, found: Sequence[Found]) -> Hit:
    source = found[item.index]
    return Hit(source.passage, item.rank, item.index + 1, source.score, item.score, item.probability, item.answers)


def judged_mode(bundle: ModelBundle | None) -> Mode:
    """The kind of search whose candidates a model was judged over."""
    name = "hybrid" if bundle is None or bundle.fusion is None else bundle.fusion.first_stage
    return "text" if "bm25" in name else "vector" if "dense" in name else "hybrid"


def open_pipeline(
    location: str, model: str | Path | None = None, mode: SearchMode = "auto", *, runtime: str = "auto",
    precision: str | None = None, embedder: str | None = None,
) -> Pipeline:  # fmt: skip
    """Open an index with its own embedder, and a tuned model over it.

    Args:
        location: Folder, or redis://host:port/name.
        model: Folder that `crosstune tune` wrote; None for the index's own order.
        mode: As of `Pipeline`.
        runtime, precision: As of `Reranker`.
        embedder: As of `open_index`.

    Raises:
        StoreError: As of `open_index`.
        BundleError, ConfigError, CheckpointError, MissingExtraError: The models cannot be used.
    """
    store, own = open_index(location, embedder)
    try:
        reranker = None if model is None else Reranker(load_bundle(model), precision, runtime)
        return Pipeline(store, own, reranker, mode)
    except BaseException:
        store.close()
        raise


def open_index(location: str, embedder: str | None = None) -> tuple[Store, SentenceTransformerEmbedder]:
    """Open an index, and the embedder that its vectors are from.

    Args:
        location: Folder, or redis://host:port/name.
        embedder: For an index in Redis that crosstune did not make: the model that its vectors are from ("embedded", a
            folder, or a hub id). The vectors of some passages are compared with what it gives; whether it puts the
            right prompt before a question cannot be seen from them.

    Raises:
        StoreError: There is no index, or its vectors are not from the embedder that is found under that name today.
        ConfigError: Another embedder than the own one is named for an index that crosstune made.
        CheckpointError, MissingExtraError: The embedder cannot be used.
    """
    if embedder is not None and is_foreign(location):
        return _open_foreign(location, embedder)
    store = open_store(location)
    try:
        own = store.spec.embedder_source
        if embedder not in (None, EMBEDDED, own):
            raise ConfigError(
                f"index {store.location} was embedded with {own!r}, not with {embedder!r}; leave --embedder out"
            )
        return store, open_embedder(store)
    except BaseException:
        store.close()
        raise


def _open_foreign(location: str, name: str) -> tuple[Store, SentenceTransformerEmbedder]:
    embedder = _loaded(name)
    store = open_store(location, ForeignSpec(embedder.identity, name, embedder.embed_queries([""]).shape[1]))
    try:
        if isinstance(store, ForeignRedisStore):
            _require_agreement(store, embedder)
        return store, embedder
    except BaseException:
        store.close()
        raise


def _require_agreement(store: ForeignRedisStore, embedder: Embedder) -> None:
    """Refuse an embedder that does not give the vectors of the index for its texts, with or without titles."""
    sample = store.sample(_PROBES)
    if not sample:
        if store.count():
            raise StoreError(
                f"no passage of {store.location} was found with a text in the field {store.text_field!r} and a vector; "
                "name the fields in the location (redis://host:port/NAME?text=...&vector=...)"
            )
        return
    stored = store.vectors([passage.passage_id for passage in sample])
    # Only who made the index knows whether titles were embedded; without titles both are the same.
    readings = {tuple(passage.text for passage in sample), tuple(passage.full_text for passage in sample)}
    agreement = max(float(np.sum(stored * embedder.embed_passages(texts), axis=1).mean()) for texts in readings)
    if agreement <= _LEAST_AGREEMENT:
        raise StoreError(
            f"the vectors of {store.location} were not made by {store.spec.embedder_source!r} from the field "
            f"{store.text_field!r}: mean cosine {agreement:.2f}; name the right model with --embedder, or the right "
            "field in the location (redis://host:port/NAME?text=...)"
        )


def open_embedder(store: Store) -> SentenceTransformerEmbedder:
    """The embedder that an index was made with.

    Raises:
        StoreError: What is found under its name gives other vectors.
        CheckpointError: It is not found.
    """
    spec = store.spec
    embedder = _loaded(spec.embedder_source)
    if embedder.identity != spec.embedder:
        raise StoreError(
            f"index {store.location} was embedded with another version of {spec.embedder_source!r} than the one that "
            "is there now; index again with `crosstune index`, or put the model back"
        )
    return embedder


def _loaded(source: str) -> SentenceTransformerEmbedder:
    # One question at a time: no measurement of precision would pay.
    return SentenceTransformerEmbedder(resolve(source), precision="fp32")


def warnings(pipeline: Pipeline) -> list[str]:
    """What a person must know of this join of index and model: parts left out, or an index embedded otherwise."""
    if pipeline.reranker is None:
        return []
    missing = [f"Ranked without the part {part.value}: {why}" for part, why in pipeline.reranker.missing.items()]
    return missing + _index_advice(pipeline.store, pipeline.reranker)


def _index_advice(store: Store, reranker: Reranker) -> list[str]:
    """What to say when a model was judged over an index embedded anew and this one was not."""
    if not reranker.searches_tuned or reranker.embedder_identity in (None, store.spec.embedder):
        return []
    return [
        "This model was judged over an index embedded with its own bi-encoder, which finds more; this index was not. "
        f"To change that, index again with --embedder {reranker.bundle.bi_encoder}"
    ]
