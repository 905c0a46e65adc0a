"""How fast is indexing and searching, where the time goes, and what reranking adds: on a real Redis.

python -m benchmarks.rag.latency MODEL [--passages 10000 100000] makes passages of our own example's words (40 tokens),
indexes them in Redis with the model's own bi-encoder, and searches for questions not asked before: p50 and p95
of embedding the question, of Redis and of reranking 50 candidates, apart. MODEL is a run folder of `crosstune tune`.
Adds to benchmarks/results/rag/latency-<machine>.json.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.timing import machine
from benchmarks.workload import ROOT
from crosstune.data import load
from crosstune.recipes.index import IndexSettings, index
from crosstune.recipes.search import SearchMode, open_pipeline
from crosstune.retrieval.stores import embedded_redis

RESULTS = ROOT / "benchmarks" / "results" / "rag"
_WORDS, _QUESTIONS, _RERANKED, _WARM_UP = 30, 100, 30, 5


def main() -> None:
    """Index, search, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("--passages", type=int, nargs="+", default=[10_000, 100_000])
    options = parser.parse_args()
    RESULTS.mkdir(parents=True, exist_ok=True)
    path = RESULTS / f"latency-{platform.machine()}-{os.cpu_count()}cpu.json"
    report: dict[str, Any] = json.loads(path.read_text()) if path.is_file() else {}
    report["machine"] = machine()
    for n in options.passages:
        with tempfile.TemporaryDirectory() as temporary, embedded_redis() as server:
            report[f"{n:,} passages"] = _measure(n, options.model, Path(temporary), f"{server.url}/docs")
        print(json.dumps({f"{n:,} passages": report[f"{n:,} passages"]}, indent=2), flush=True)
        path.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")


def _measure(n: int, model: Path, folder: Path, location: str) -> dict[str, Any]:
    collection = load(ROOT / "examples" / "helpdesk.csv").collection
    words = [word for passage in collection.passages.values() for word in passage.text.split()]
    draw = random.Random(0)
    with (folder / "docs.jsonl").open("w", encoding="utf-8") as file:
        for _ in range(n):
            start = draw.randrange(len(words) - _WORDS)
            # Some words of another place make every passage different.
            text = words[start : start + _WORDS - 6] + draw.sample(words, 6)
            file.write(json.dumps({"text": " ".join(text)}) + "\n")
    settings = IndexSettings(embedder=str(model))
    done = index(folder / "docs.jsonl", location, settings)
    again = index(folder / "docs.jsonl", location, settings)
    questions = [query.text for query in collection.queries.values()]
    draw.shuffle(questions)
    rows: dict[str, Any] = {}
    modes: tuple[SearchMode, ...] = ("vector", "text", "hybrid")
    for mode in modes:
        rows[mode] = _search(location, None, mode, questions[: _WARM_UP + _QUESTIONS])
    rows["vector, 50 reranked"] = _search(location, model, "vector", questions[: _WARM_UP + _RERANKED])
    return {
        "passages": done.n_passages,
        "indexing, passages a second (embedding and writing)": done.embedded_per_s,
        "seconds of the whole": done.seconds,
        "seconds of the same again, nothing changed": again.seconds,
        "milliseconds": rows,
    }


def _search(location: str, model: Path | None, mode: SearchMode, questions: list[str]) -> dict[str, dict[str, float]]:
    pipeline = open_pipeline(location, model, mode)
    timings = [pipeline.search(question).timings_ms for question in questions][_WARM_UP:]
    pipeline.close()
    parts = ("embed", "search", "rerank") if model else ("embed", "search")
    return {part: _spread([one[part] for one in timings]) for part in parts} | {
        "all": _spread([sum(one.values()) for one in timings])
    }


def _spread(values: list[float]) -> dict[str, float]:
    return {f"p{q}": round(float(np.percentile(values, q)), 2) for q in (50, 95)}


if __name__ == "__main__":
    main()
