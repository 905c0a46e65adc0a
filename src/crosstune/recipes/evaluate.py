"""Judging a saved model on a judged collection."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from crosstune.bi_encoder import CachedEmbedder, SentenceTransformerEmbedder
from crosstune.bundle import ModelBundle
from crosstune.checkpoints import EMBEDDED, resolve
from crosstune.data import read_beir
from crosstune.errors import ConfigError
from crosstune.evaluation import ceiling, evaluate
from crosstune.known_questions import load_known_questions
from crosstune.progress import Progress, silent
from crosstune.protocols import Retriever
from crosstune.recipes.choose import PartScores, join
from crosstune.recipes.known import known_scores
from crosstune.recipes.prepare import make_first_stages, queries_of, top_of
from crosstune.recipes.reading import score_runs, to_read, with_logits
from crosstune.recipes.run_folder import write_runs
from crosstune.scoring import Reranker, rerank, with_rest
from crosstune.types import Collection, EvalReport, Part, Run, ScoreKind


def evaluate_model(
    model: str | Path,
    data: str | Path,
    *,
    split: str = "test",
    depth: int = 50,
    embedder: str = EMBEDDED,
    first_stage: str | None = None,
    precision: str | None = None,
    runtime: str = "auto",
    out: Path | None = None,
    progress: Progress = silent,
) -> EvalReport:
    """Rank a BEIR folder's queries with the untuned first stages and with the model, and compare.

    Nothing is chosen here: the weights of the parts are the bundle's.

    Args:
        model: Model folder.
        data: BEIR folder.
        split: Which qrels.
        depth: Candidates of each query, for every row.
        embedder: Bi-encoder of the dense first stage.
        first_stage: Whose candidates are reranked, for example "dense" or "tuned dense"; None for the one that the
            shipped pipeline was judged on, else hybrid.
        precision, runtime: To score in and with; see `crosstune.scoring.open_scorer`.
        out: Folder for the rankings as TREC runs and, when given, the embedding cache.
        progress: Told of the work.

    Raises:
        BundleError, DataError, ConfigError: The model, the data or an option cannot be used.
    """
    reranker = Reranker.load(model, runtime, precision)
    collection = read_beir(data, split)
    query_ids = [query_id for query_id in collection.queries if collection.relevant(query_id)]
    with tempfile.TemporaryDirectory() as temporary:
        cache = (out or Path(temporary)) / "cache"
        runs, parts = _first_stages(reranker.bundle, collection, query_ids, depth, embedder, cache, progress)
    fusion = reranker.bundle.fusion
    chosen = first_stage or (fusion.first_stage if fusion else "hybrid")
    if chosen not in runs:
        raise ConfigError(f"no first stage is named {chosen!r}; choose from {', '.join(runs)}")
    runs |= _reranked(reranker, collection, runs[chosen], parts, query_ids, progress)
    runs["ceiling"] = ceiling(runs[chosen], collection.qrels, "ceiling")
    if out is not None:
        write_runs(runs, out)
    comparisons = [(chosen, name) for name in runs if name in ("base", "tuned reranker", "shipped")]
    return evaluate(list(runs.values()), collection.qrels, query_ids, {q: q for q in query_ids}, comparisons, depth)


def _first_stages(
    bundle: ModelBundle,
    collection: Collection,
    query_ids: Sequence[str],
    depth: int,
    embedder: str,
    cache: Path,
    progress: Progress,
) -> tuple[dict[str, Run], PartScores]:
    """Rankings by the untuned first stages and by the bundle's tuned ones, and the parts beside the cross-encoder."""
    queries = queries_of(collection, query_ids)
    untuned = SentenceTransformerEmbedder(resolve(embedder))
    bm25, dense, hybrid = make_first_stages(collection, CachedEmbedder(untuned, cache), progress)
    retrievers: list[Retriever] = [bm25, dense, hybrid]
    cosines = known = None
    if bundle.bi_encoder is not None:
        tuned = SentenceTransformerEmbedder(resolve(str(bundle.bi_encoder)))
        vectors = dense.vectors if tuned.identity == untuned.identity else None
        cached = CachedEmbedder(tuned, cache)
        _, dense, hybrid = make_first_stages(collection, cached, progress, "tuned ", vectors)
        retrievers += [dense, hybrid]
        cosines = dense.similarity(queries, progress)
        if bundle.known_questions is not None:
            questions = load_known_questions(bundle.known_questions)
            known = known_scores(questions, collection, queries, cached, progress)
    runs = {retriever.name: retriever.retrieve(queries, depth, progress) for retriever in retrievers}
    return runs, PartScores(collection, cosines, known)


def _reranked(
    reranker: Reranker,
    collection: Collection,
    candidates: Run,
    parts: PartScores,
    query_ids: Sequence[str],
    progress: Progress,
) -> dict[str, Run]:
    """The cross-encoder alone, if there is one, and the pipeline that the bundle recommends."""
    rows: dict[str, Run] = {}
    fusion, shipped = reranker.bundle.fusion, candidates
    # A first stage's score is a part only over the candidates that it was judged with.
    foreign = fusion is not None and Part.FIRST_STAGE in fusion.weights and fusion.first_stage != candidates.name
    of_parts = parts(candidates, query_ids)
    if reranker.bundle.has_cross_encoder:
        reading = None if fusion is None else fusion.reading
        top = candidates if reading is None else top_of(candidates, query_ids, reading.n)
        read = to_read(candidates, of_parts, reading)
        logits, _ = score_runs(reranker.scorer, collection, [top, read], query_ids, progress)
        name = "base" if reranker.bundle.is_untuned else "tuned reranker"
        rows[name] = shipped = with_rest(rerank(top, logits[0], name), candidates)
        of_parts = with_logits(candidates, of_parts, read, logits[1])
    if fusion is not None and not (foreign and reranker.bundle.has_cross_encoder):
        fused = join(candidates, of_parts, fusion.weights)
        shipped = rerank(candidates, fused, "shipped", ScoreKind.FUSED)
    return rows | {"shipped": replace(shipped, name="shipped")}
