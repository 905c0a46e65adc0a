"""What more data and more cores cost: seconds and peak memory of each part of the work, each in a process of its own.

The model is left out where only its speed would be measured once more (`SumScorer`): shown is what everything around it
adds to each pair. Vectors of the passages are drawn (unit vectors in clusters), not embedded.
"""

from __future__ import annotations

import multiprocessing
import random
import resource
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.workload import MINILM, ROOT, mixed_pairs, save_model
from crosstune.checkpoints import resolve
from crosstune.data import load
from crosstune.mining import MiningSettings, mine
from crosstune.pair_encoding import EncodedPair, PairEncoder
from crosstune.progress import Progress, silent
from crosstune.recipes.tune import encode_groups
from crosstune.retrieval import Dense
from crosstune.retrieval.stores.vectors import ExactVectors, GraphVectors
from crosstune.scoring import TorchScorer
from crosstune.scoring.base import BatchScorer
from crosstune.types import Collection, Passage, Query

N_PAIRS = (1_000, 10_000, 100_000, 1_000_000)
N_PASSAGES = (10_000, 100_000, 1_000_000)
N_GRAPH = (10_000, 100_000, 300_000)
_N_QUERIES, _DEPTH, _DIMENSIONS, _CLUSTERS = 1_000, 100, 384, 1_000
_MAX_LENGTH, _N_NEGATIVES = 256, 5
_PASSAGES_TO_TRAIN_ON, _PAIRS_ON_CORES = 10_000, 200


def scoring_pairs() -> dict[str, Any]:
    """Tokenising, joining, batching and restoring the order of pairs of about 190 tokens."""
    return _growing("pairs", N_PAIRS, _score_pairs)


def training_pairs() -> dict[str, Any]:
    """Dense search among 10,000 passages, mining, and tokenising of training groups of 6 pairs."""
    return _growing("pairs", N_PAIRS, _prepare_pairs)


def mining_passages() -> dict[str, Any]:
    """Exact dense search and mining of five negatives for 1,000 questions."""
    return _growing("passages", N_PASSAGES, _mine_among)


def graph_search() -> dict[str, Any]:
    """The same search by usearch's graph, as `--retriever FOLDER` asks it: building it costs far more than searching.

    Beside it how many questions exact search answers in the time that building takes, from which on a graph pays.
    """
    rows = {}
    for n in N_GRAPH:
        (build, graph, recall), exact = _measured(_by_graph, n), _measured(_exactly, n)
        pays = build / max(1e-9, (exact[0] - graph) / _N_QUERIES)
        rows[f"{n:,} passages"] = {
            "build_s": round(build, 2),
            "graph_s": round(graph, 2),
            "exact_s": round(exact[0], 2),
            "recall@100": round(recall, 4),
            "pays_from_questions": round(pays) if exact[0] > graph else None,
        }
    return {"questions": _N_QUERIES, "rows": rows}


def cores() -> dict[str, Any]:
    """Scoring by the real model, with one thread and with two."""
    rows = {f"{n} threads": _in_process(partial(_score_on, n)) for n in (1, 2)}
    return {"pairs": _PAIRS_ON_CORES, "rows": rows}


class SumScorer(BatchScorer):
    """A stand-in for a model: the logit of a pair is the sum of its token ids."""

    runtime = "sum"

    def _logits(self, pairs: Sequence[EncodedPair]) -> NDArray[np.float64]:
        return np.asarray(self.encoder.pad_arrays(pairs)["input_ids"].sum(axis=1), np.float64)


class _Drawn:
    """Vectors of texts by their number: cluster centres and noise."""

    name = "drawn"

    def __init__(self) -> None:
        self._centres = np.random.default_rng(0).standard_normal((_CLUSTERS, _DIMENSIONS), dtype=np.float32)

    def embed_queries(self, texts: Sequence[str], progress: Progress = silent) -> NDArray[np.float32]:
        """(texts, dimensions)."""
        return self._draw(len(texts), seed=1)

    def embed_passages(self, texts: Sequence[str], progress: Progress = silent) -> NDArray[np.float32]:
        """(texts, dimensions)."""
        return self._draw(len(texts), seed=2)

    def _draw(self, n: int, seed: int) -> NDArray[np.float32]:
        draw = np.random.default_rng(seed)
        vectors = draw.standard_normal((n, _DIMENSIONS), dtype=np.float32)
        vectors += self._centres[draw.integers(_CLUSTERS, size=n)]
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        return vectors


def _growing(of: str, sizes: Sequence[int], work: Callable[[int], float]) -> dict[str, Any]:
    rows = {}
    for n in sizes:
        row = _in_process(partial(work, n))
        rows[f"{n:,} {of}"] = row | {f"{of}_per_s": round(n / row["seconds"])}
    return {"rows": rows}


def _in_process(work: Callable[[], float]) -> dict[str, float]:
    """Seconds as `work` tells them, and peak memory of its process before it and after."""
    context = multiprocessing.get_context("spawn")
    receiving, sending = context.Pipe(duplex=False)
    process = context.Process(target=_run, args=(work, sending))
    process.start()
    sending.close()
    seconds, before, peak = receiving.recv()
    process.join()
    return {"seconds": round(seconds, 2), "mib_before": before, "mib_peak": peak}


def _measured(work: Callable[[int], tuple[float, ...]], n: int) -> tuple[float, ...]:
    """What `work` gives in a process of its own."""
    context = multiprocessing.get_context("spawn")
    with context.Pool(1) as pool:
        return pool.apply(work, (n,))


def _exactly(n: int) -> tuple[float]:
    collection = _collection(n, _N_QUERIES)
    dense = Dense(collection.passages, _Drawn())
    start = time.perf_counter()
    dense.retrieve(list(collection.queries.values()), _DEPTH)
    return (time.perf_counter() - start,)


def _by_graph(n: int) -> tuple[float, float, float]:
    """Seconds of building, seconds of asking, and the share of the exact nearest that it finds."""
    passages, queries = _Drawn().embed_passages([""] * n), _Drawn().embed_queries([""] * _N_QUERIES)
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        graph = GraphVectors(Path(folder) / "graph", np.arange(n), _DIMENSIONS, lambda keys: passages[list(keys)])
        build = time.perf_counter() - start
        start = time.perf_counter()
        found = [graph.nearest(query, _DEPTH, None)[0] for query in queries]
        seconds = time.perf_counter() - start
    exact = ExactVectors(passages)
    some = range(0, _N_QUERIES, 10)
    hits = [len(np.intersect1d(found[i], exact.nearest(queries[i], _DEPTH, None)[0])) for i in some]
    return build, seconds, float(np.mean(hits)) / _DEPTH


def _run(work: Callable[[], float], sending: Any) -> None:
    _score_pairs(8)  # imports and the tokenizer do not grow with anything
    before = _peak_mib()
    sending.send((work(), before, _peak_mib()))


def _peak_mib() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


def _score_pairs(n: int) -> float:
    some = mixed_pairs(min(n, 10_000))
    # A number before each passage: no text stands there twice, so none is tokenised for another.
    pairs = [(query, f"{i} {passage}") for i, (query, passage) in enumerate(islice(cycle(some), n))]
    scorer = SumScorer(_encoder(), "none")
    start = time.perf_counter()
    scorer.score_pairs(pairs)
    return time.perf_counter() - start


def _prepare_pairs(n: int) -> float:
    n_groups = n // (1 + _N_NEGATIVES)
    return _mine(n_passages=_PASSAGES_TO_TRAIN_ON, n_queries=n_groups, tokenise=True)


def _mine_among(n: int) -> float:
    """Search and mine among n passages."""
    return _mine(n_passages=n, n_queries=_N_QUERIES, tokenise=False)


def _mine(n_passages: int, n_queries: int, tokenise: bool) -> float:
    collection = _collection(n_passages, n_queries)
    start = time.perf_counter()
    dense = Dense(collection.passages, _Drawn())
    queries = list(collection.queries.values())
    mined = mine(
        collection,
        dense.retrieve(queries, _DEPTH),
        list(collection.queries),
        protected_passage_ids=frozenset(),
        near_duplicates={},
        similarity=dense.similarity(queries),
        settings=MiningSettings(n_negatives=_N_NEGATIVES, seed=0),
    )
    if tokenise:
        encode_groups(mined.groups, collection, _encoder())
    return time.perf_counter() - start


def _collection(n_passages: int, n_queries: int) -> Collection:
    """Passages of about 25 words, and questions of which the first passages are the answers."""
    example, draw = load(ROOT / "examples" / "helpdesk.csv").collection, random.Random(0)
    words = sorted({word for passage in example.passages.values() for word in passage.text.split()})
    passages = {f"p{i}": Passage(f"p{i}", " ".join(draw.choices(words, k=25))) for i in range(n_passages)}
    queries = {f"q{i}": Query(f"q{i}", " ".join(draw.choices(words, k=8))) for i in range(n_queries)}
    return Collection(passages, queries, {f"q{i}": {f"p{i % n_passages}": 1} for i in range(n_queries)}, "drawn")


def _encoder() -> PairEncoder:
    return PairEncoder.from_folder(resolve("embedded").path, _MAX_LENGTH)


def _score_on(n_threads: int) -> float:
    import torch

    torch.set_num_threads(n_threads)
    with tempfile.TemporaryDirectory() as folder:
        scorer = TorchScorer(*save_model(MINILM, Path(folder)), _MAX_LENGTH, "bf16")
    pairs = mixed_pairs(_PAIRS_ON_CORES)
    scorer.score_pairs(pairs[:20])
    start = time.perf_counter()
    scorer.score_pairs(pairs)
    return time.perf_counter() - start
