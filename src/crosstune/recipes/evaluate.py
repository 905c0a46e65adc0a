"""Judging a saved model on a judged collection."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path

from crosstune.bi_encoder import CachedEmbedder, SentenceTransformerEmbedder
from crosstune.checkpoints import EMBEDDED, resolve
from crosstune.data import read_beir, write_run
from crosstune.errors import ConfigError
from crosstune.evaluation import ceiling, evaluate
from crosstune.progress import Progress, silent
from crosstune.recipes.choose import score_run
from crosstune.recipes.prepare import make_first_stages
from crosstune.scoring import Reranker, rerank
from crosstune.types import EvalReport


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

    Nothing is chosen here: the fusion weight is the bundle's.

    Args:
        model: Model folder.
        data: BEIR folder.
        split: Which qrels.
        depth: Candidates of each query, for every row.
        embedder: Bi-encoder of the dense first stage.
        first_stage: Whose candidates are reranked; None for the one the model was tuned on, else hybrid.
        precision, runtime: To score in and with; see `crosstune.scoring.open_scorer`.
        out: Folder for the rankings as TREC runs and, when given, the embedding cache.
        progress: Told of the work.

    Raises:
        BundleError, DataError, ConfigError: The model, the data or an option cannot be used.
    """
    reranker = Reranker.load(model, runtime, precision)
    collection = read_beir(data, split)
    query_ids = [query_id for query_id in collection.queries if collection.relevant(query_id)]
    fusion = reranker.bundle.fusion
    chosen = first_stage or (fusion.first_stage if fusion else "hybrid")
    with tempfile.TemporaryDirectory() as temporary:
        cache = (out or Path(temporary)) / "cache"
        encoder = CachedEmbedder(SentenceTransformerEmbedder(resolve(embedder)), cache)
        retrievers = make_first_stages(collection, encoder, progress)
        queries = [collection.queries[query_id] for query_id in query_ids]
        runs = {retriever.name: retriever.retrieve(queries, depth, progress) for retriever in retrievers}
    if chosen not in runs:
        raise ConfigError(f"no first stage is named {chosen!r}; choose from {', '.join(runs)}")
    candidates = runs[chosen]
    logits, _ = score_run(reranker.scorer, collection, candidates, query_ids, progress)
    runs["tuned"] = rerank(candidates, logits, "tuned")
    # The judged pipeline is the bundle's; on other candidates than it was judged with, the reranker stands alone.
    fused = fusion is not None and fusion.first_stage == chosen
    shipped = rerank(candidates, logits, "shipped", fusion.weight) if fused and fusion else runs["tuned"]
    runs["shipped"] = replace(shipped, name="shipped")
    runs["ceiling"] = ceiling(candidates, collection.qrels, "ceiling")
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
        for name, run in runs.items():
            write_run(run, out / f"{name}.trec")
    comparisons = [(chosen, "tuned"), (chosen, "shipped")]
    return evaluate(list(runs.values()), collection.qrels, query_ids, {q: q for q in query_ids}, comparisons, depth)
