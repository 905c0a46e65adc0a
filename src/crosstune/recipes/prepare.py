"""From the user's file to split questions with candidates: what every recipe starts with."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cache, partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from crosstune.bi_encoder import CachedEmbedder, SentenceTransformerEmbedder
from crosstune.checkpoints import Checkpoint, resolve
from crosstune.data import (
    MAX_UNKNOWN_SHARE,
    Audit,
    LoadedData,
    check_leaks,
    load,
    near_duplicate_passages,
    split,
    splits_from_user,
    write_qrels,
)
from crosstune.evaluation import HEADLINE, per_query, smallest_detectable_gain
from crosstune.files import write_json
from crosstune.language import Language, detect_language
from crosstune.progress import Progress, silent
from crosstune.protocols import Embedder, Retriever
from crosstune.recipes.check import language_advice, unknown_share
from crosstune.recipes.live import Live
from crosstune.recipes.run_folder import RunFolder
from crosstune.recipes.settings import TuneSettings
from crosstune.retrieval import BM25, Dense, Hybrid
from crosstune.types import Collection, Query, Run, Splits

Say = Callable[[str], None]
Similarity = Callable[[str, Sequence[str]], NDArray[np.float64]]
# Mining looks deeper than judging, for its mid-rank band.
MINING_DEPTH = 100
_LANGUAGE_SAMPLE = 2000
_EMBEDDING_SAMPLE = 64
_MOST_DECIDING = 1000


def unheard(message: str) -> None:
    """Say nothing to nobody: the library's default."""


@dataclass(slots=True)
class Stopwatch:
    """Seconds of each stage."""

    seconds: dict[str, float] = field(default_factory=dict)
    started: float = field(default_factory=time.monotonic)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Time a stage."""
        start = time.monotonic()
        yield
        self.seconds[name] = round(self.seconds.get(name, 0.0) + time.monotonic() - start, 2)

    @property
    def elapsed_s(self) -> float:
        """Seconds since the run began."""
        return time.monotonic() - self.started


@dataclass(frozen=True, slots=True)
class Prepared:
    """Everything a recipe needs before it trains.

    Attributes:
        collection, audit: The data and what was found in it.
        splits: Questions of train, dev, test, leak-checked.
        embedder: Bi-encoder of the dense first stage.
        similarity: (train query_id, passage_ids) -> cosines, by which mining filters; None when the embedder cannot
            read the language.
        first_stages: name -> ranking of dev and test questions, of the judged depth.
        chosen: Name of the first stage whose candidates are reranked, chosen without looking at test.
        mining_run: The chosen first stage's deeper ranking of the train questions.
        vectors: (passages, dimensions) of all passages of the collection, by the embedder.
        embedding_s: Measures the expected seconds for embedding all passages anew.
        near_duplicates: Finds each passage's near-duplicates, once for whoever asks.
        stopwatch: Started when the run began.
        notes: What the reader must know about the data.
    """

    collection: Collection
    audit: Audit
    splits: Splits
    embedder: Checkpoint
    similarity: Similarity | None
    first_stages: Mapping[str, Run]
    chosen: str
    mining_run: Run
    vectors: Callable[[], NDArray[np.float32]]
    embedding_s: Callable[[], float]
    near_duplicates: Callable[[], Mapping[str, frozenset[str]]]
    stopwatch: Stopwatch
    notes: tuple[str, ...]

    @property
    def candidates(self) -> Run:
        """Candidates of dev and test questions that every reranker reorders."""
        return self.first_stages[self.chosen]


def read(path: Path, settings: TuneSettings, progress: Progress, say: Say) -> LoadedData:
    """Read the file and say what is in it.

    Raises:
        DataError: The file cannot be used.
        LeakageError: A question is in two of the splits that the user gave.
    """
    loaded = load(path, settings.load, progress)
    say(_audit_sentence(loaded.audit, loaded.collection))
    for advice in _language_notes(loaded.audit, settings):
        say(advice)
    return loaded


def split_questions(loaded: LoadedData, settings: TuneSettings, say: Say) -> Splits:
    """Split the questions by group, or as the user says, and prove that nothing leaks.

    Raises:
        DataError: There are too few to split.
        LeakageError: Splits that the user gave share questions.
    """
    collection = loaded.collection
    if loaded.splits_by_user is None:
        splits = split(collection, settings.split)
    else:
        splits = splits_from_user(collection, loaded.splits_by_user, settings.split, settings.drop_leaks)
        n_dropped = len(loaded.splits_by_user) - len(splits.train) - len(splits.dev) - len(splits.test)
        if n_dropped:
            say(f"Left out {n_dropped:,} train and dev questions that are near-duplicates of a later split's.")
    n_shared = check_leaks(collection, splits)
    if n_shared:
        say(f"{n_shared:,} passages answer questions of more than one of your splits.")
    n_groups = len({splits.groups[query_id] for query_id in splits.test})
    say(
        f"Split by groups: {len(splits.train):,} train, {len(splits.dev):,} dev, {len(splits.test):,} test questions "
        f"(test: {n_groups:,} independent groups). The smallest true gain such a test set is likely to show (80% "
        f"power) is {smallest_detectable_gain(n_groups):.3f} nDCG@10."
    )
    return splits


def first_stages(
    loaded: LoadedData,
    splits: Splits,
    settings: TuneSettings,
    folder: RunFolder,
    stopwatch: Stopwatch,
    progress: Progress = silent,
    say: Say = unheard,
    live: Live | None = None,
) -> Prepared:
    """Rank candidates by BM25, dense and hybrid search, and choose whose candidates are reranked.

    Args:
        live: Whose search it is; None to search the collection here.
    """
    collection = loaded.collection
    with stopwatch.stage("first stage"):
        # A continued run must not measure anew: another precision would mean other vectors and other negatives.
        precision = folder.recall("embedder_precision") or "auto"
        checkpoint = resolve(settings.embedder)
        bi_encoder = SentenceTransformerEmbedder(checkpoint, precision=precision)
        folder.remember(embedder_precision=bi_encoder.precision)
        embedder = CachedEmbedder(bi_encoder, folder.cache)
        retrievers: Sequence[Retriever]
        if live is None:
            retrievers = (_, dense, _) = make_first_stages(collection, embedder, progress)
        else:
            retrievers, dense = live.first_stages(embedder), live.dense(embedder)
        train = queries_of(collection, splits.train)
        deciding = train + queries_of(collection, splits.dev)
        runs, chosen, mining_run = rank_with(retrievers, deciding, collection, splits, settings.depth, progress)
        similarity = dense.similarity(train, progress) if _reads(loaded.audit, settings.embedder) else None
    say(f"First stage: candidates from {chosen}, the best of BM25, dense and hybrid on the train and dev questions.")
    notes = tuple(_language_notes(loaded.audit, settings))
    return Prepared(
        collection=collection,
        audit=loaded.audit,
        splits=splits,
        embedder=checkpoint,
        similarity=similarity,
        first_stages=runs,
        chosen=chosen,
        mining_run=mining_run,
        vectors=lambda: dense.vectors,
        embedding_s=partial(_embedding_s, bi_encoder, collection),
        near_duplicates=cache(partial(near_duplicate_passages, collection)),
        stopwatch=stopwatch,
        notes=notes,
    )


def _embedding_s(embedder: Embedder, collection: Collection) -> float:
    """Expected seconds for embedding all passages, from a sample of them."""
    texts = [passage.full_text for passage in collection.passages.values()]
    sample = texts[:: max(1, len(texts) // _EMBEDDING_SAMPLE)][:_EMBEDDING_SAMPLE]
    start = time.perf_counter()
    embedder.embed_passages(sample)
    return (time.perf_counter() - start) * len(texts) / len(sample)


def rank_with(
    retrievers: Sequence[Retriever],
    deciding: Sequence[Query],
    collection: Collection,
    splits: Splits,
    depth: int,
    progress: Progress,
) -> tuple[dict[str, Run], str, Run]:
    """Rankings of the dev and test questions by name, the chosen one's name, and its deeper one of the train questions.

    Args:
        retrievers: First stages.
        deciding: Questions by which one is chosen.
        collection, splits: The data.
        depth: Candidates judged.
        progress: Told of the work.
    """
    judged = queries_of(collection, splits.dev + splits.test)
    by_name = {retriever.name: retriever for retriever in retrievers}
    runs = {name: retriever.retrieve(judged, depth, progress) for name, retriever in by_name.items()}
    chosen = choose_first_stage(retrievers, deciding, collection, depth, progress)
    return runs, chosen, by_name[chosen].retrieve(queries_of(collection, splits.train), MINING_DEPTH, progress)


def make_first_stages(
    collection: Collection,
    embedder: Embedder,
    progress: Progress = silent,
    prefix: str = "",
    vectors: NDArray[np.float32] | None = None,
) -> tuple[BM25, Dense, Hybrid]:
    """BM25, dense and hybrid search over a collection's passages.

    Args:
        collection: The passages.
        embedder: Of questions, and of passages whose vectors are not given.
        progress: Told of the embedding.
        prefix: Names a tuned embedder's rows.
        vectors: (passages, dimensions) where they are known.
    """
    bm25 = make_bm25(collection)
    dense = Dense(collection.passages, embedder, progress, f"{prefix}dense", vectors)
    return bm25, dense, Hybrid([bm25, dense], f"{prefix}hybrid")


def make_bm25(collection: Collection) -> BM25:
    """BM25 over a collection's passages, in the language that they are in."""
    return BM25(collection.passages, main_language(collection))


def main_language(collection: Collection) -> Language:
    """The language that most passages are in."""
    return detect_language([passage.text for passage in list(collection.passages.values())[:_LANGUAGE_SAMPLE]])


def write_split(prepared: Prepared, folder: RunFolder) -> None:
    """Write which question is used for what, and the judgments of the test questions."""
    splits = prepared.splits
    write_json(
        folder.path / "splits.json",
        {
            "seed": splits.seed,
            "train": splits.train,
            "dev": splits.dev,
            "test": splits.test,
            "questions": {query_id: query.text for query_id, query in prepared.collection.queries.items()},
            "groups": dict(splits.groups),
        },
    )
    write_qrels(
        {query_id: prepared.collection.qrels[query_id] for query_id in splits.test},
        folder.path / "qrels.trec",
    )


def _reads(audit: Audit, embedder: str) -> bool:
    share, _ = unknown_share(audit, embedder)
    return share is None or share <= MAX_UNKNOWN_SHARE


def _language_notes(audit: Audit, settings: TuneSettings) -> list[str]:
    """Whether the base, and the embedder of the first stage, can read this language at all."""
    notes = []
    for model in dict.fromkeys((settings.base, settings.embedder)):
        share, problem = unknown_share(audit, model)
        notes += [problem] if problem else language_advice(share, model)
    return notes


def select(run: Run, query_ids: Sequence[str]) -> Run:
    """The part of a run that answers these questions."""
    return replace(run, candidates={q: run.candidates[q] for q in query_ids if q in run.candidates})


def top_of(run: Run, query_ids: Sequence[str], depth: int) -> Run:
    """The first `depth` candidates of these questions."""
    found = select(run, query_ids).candidates
    return replace(run, depth=depth, candidates={query_id: ranked[:depth] for query_id, ranked in found.items()})


def queries_of(collection: Collection, query_ids: Sequence[str]) -> list[Query]:
    """Questions by id."""
    return [collection.queries[query_id] for query_id in query_ids]


def choose_first_stage(
    retrievers: Sequence[Retriever], queries: Sequence[Query], collection: Collection, depth: int, progress: Progress
) -> str:
    """Name of the first stage that ranks these questions best, then of the one that finds most.

    By nDCG@10 rather than recall, since the shipped ranking is a fusion with its score and may be nothing but it.

    Args:
        retrievers: First stages.
        queries: Of dev, and of train where nothing has been fitted to them: dev alone is small. Of more than a
            thousand some are drawn: more would decide the same, and a live index takes milliseconds for each.
        collection: The data.
        depth: Candidates judged.
        progress: Told of the work.
    """
    recall = f"R@{depth}"
    judged = [query for query in queries if collection.relevant(query.query_id)]
    judged = random.Random(0).sample(judged, min(_MOST_DECIDING, len(judged)))

    def quality(retriever: Retriever) -> tuple[float, float]:
        run = retriever.retrieve(judged, depth, progress)
        values = per_query(run, collection.qrels, [query.query_id for query in judged], (HEADLINE, recall))
        return float(np.mean(values[HEADLINE])), float(np.mean(values[recall]))

    return max(retrievers, key=quality).name


def _audit_sentence(audit: Audit, collection: Collection) -> str:
    return (
        f"Read {audit.rows_read:,} rows: {audit.rows_used:,} used, {audit.rows_merged:,} merged, "
        f"{audit.rows_dropped:,} dropped; {len(collection.queries):,} questions, {len(collection.passages):,} "
        "different answers."
    )
