"""How often is the answer in the context? With and without reranking, on a real Redis, for held-out questions.

python -m benchmarks.rag.context DATA/qa.csv [--minutes 10] [--stages auto] indexes the answers of a file in Redis (cut
into passages), tunes with that live index as first stage, and packs contexts of 512, 1,024 and 2,048 tokens for the
test questions: in the index's own order and reranked, over the index as it is and over the index embedded with the
tuned bi-encoder. Writes benchmarks/results/rag/NAME.json. No texts are kept.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.timing import machine
from benchmarks.workload import ROOT
from crosstune.data import load, read_qrels
from crosstune.evaluation import compare, estimate
from crosstune.recipes.ask import token_counter
from crosstune.recipes.index import IndexSettings, index
from crosstune.recipes.search import Pipeline, SearchMode, open_pipeline
from crosstune.recipes.settings import TuneSettings
from crosstune.recipes.tune import tune
from crosstune.retrieval.packing import pack
from crosstune.retrieval.stores import embedded_redis

RESULTS = ROOT / "benchmarks" / "results" / "rag"
BUDGETS = (512, 1024, 2048)
DEPTH = 50
Values = dict[str, dict[int, np.ndarray]]


def main() -> None:
    """Index, tune, pack, count."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--stages", default="auto")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary, embedded_redis() as server:
        folder = Path(temporary)
        documents = _answers(options.data, folder / "answers.jsonl")
        location, tuned_location = f"{server.url}/plain", f"{server.url}/tuned"
        index(documents, location)
        settings = TuneSettings(budget_s=60 * options.minutes, retriever=location, stages=options.stages)
        finished = tune(options.data, folder / "run", settings, say=print)
        index(documents, tuned_location, IndexSettings(embedder=str(folder / "run")))
        splits = json.loads((folder / "run" / "splits.json").read_text(encoding="utf-8"))
        qrels = read_qrels(folder / "run" / "qrels.trec")
        questions = {query_id: splits["questions"][query_id] for query_id in qrels}
        values: Values = {}
        for name, pipeline in _pipelines(location, tuned_location, folder / "run"):
            values[name] = _contained(pipeline, questions, qrels)
            print(name, {budget: round(float(of.mean()), 3) for budget, of in values[name].items()}, flush=True)
            pipeline.close()
        groups = [splits["groups"][query_id] for query_id in qrels]
        about = {"shipped": finished.report["shipped"], "verdict": finished.verdict.value, "machine": machine()}
        report = _report(values, groups) | about
    RESULTS.mkdir(parents=True, exist_ok=True)
    name = options.data.parent.name
    (RESULTS / f"{name}.json").write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")


def _answers(data: Path, path: Path) -> Path:
    """The different answers of a file as documents to index."""
    passages = load(data).collection.passages.values()
    with path.open("w", encoding="utf-8") as file:
        file.writelines(json.dumps({"text": passage.text}) + "\n" for passage in passages)
    return path


def _pipelines(plain: str, tuned: str, run: Path) -> Iterator[tuple[str, Pipeline]]:
    modes: tuple[SearchMode, ...] = ("vector", "text", "hybrid")
    for mode in modes:
        yield f"{mode} search", open_pipeline(plain, None, mode)
    yield "reranked", open_pipeline(plain, run)
    yield "vector search, tuned index", open_pipeline(tuned, None, "vector")
    yield "reranked, tuned index", open_pipeline(tuned, run)


def _contained(
    pipeline: Pipeline, questions: dict[str, str], qrels: dict[str, dict[str, int]]
) -> dict[int, np.ndarray]:
    """Budget -> for each question whether a passage that answers it is in the context, uncut."""
    count = token_counter(pipeline.store)
    found: dict[int, list[float]] = {budget: [] for budget in BUDGETS}
    for query_id, question in questions.items():
        hits = pipeline.search(question, depth=DEPTH, top_n=DEPTH).hits
        for budget in BUDGETS:
            citations = pack(hits, budget, count).citations
            inside = {pid for citation in citations if not citation.cut for pid in citation.passage_ids}
            relevant = {pid for pid, relevance in qrels[query_id].items() if relevance > 0}
            found[budget].append(float(bool(inside & relevant)))
    return {budget: np.array(values) for budget, values in found.items()}


def _report(values: Values, groups: Sequence[str]) -> dict[str, Any]:
    """Shares with intervals, and each against vector search."""
    rows: dict[str, Any] = {}
    for name, of_budget in values.items():
        rows[name] = {str(budget): _plain(estimate(found, groups)) for budget, found in of_budget.items()}
    family = [(name, budget) for name in values if name != "vector search" for budget in BUDGETS]
    gains = {}
    for name, budget in family:
        found, base = values[name][budget], values["vector search"][budget]
        one = compare(f"{budget} tokens", "vector search", name, base, found, groups)
        gains[f"{name}, {budget} tokens"] = {"gain": _plain(one.delta), "p_value": one.p_value}
    return {"share of questions whose answer is in the context": rows, "gain over vector search": gains}


def _plain(found: Any) -> dict[str, float]:
    return {key: round(getattr(found, key), 4) for key in ("mean", "ci_low", "ci_high", "n")}


if __name__ == "__main__":
    main()
