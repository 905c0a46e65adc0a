"""How often does a semantic cache answer rightly, with and without a gate? On paraphrases of stackfaq and a real Redis.

python -m benchmarks.rag.cache_gate SHARED/data/stackfaq [--minutes 10] tunes a model to tell which stored question a
paraphrase asks (rows: paraphrase, original question), fills a RedisVL SemanticCache with all originals, and asks it the
paraphrases of test threads twice: with their original in the cache, where the right hit is that one, and without it,
where every hit is wrong. Thresholds are chosen on the paraphrases of dev threads, by balanced accuracy, or are those
that RedisVL comes with. Writes benchmarks/results/rag/cache-gate.json. No texts are kept.
"""

from __future__ import annotations

import argparse
import csv
import json
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.timing import machine
from benchmarks.workload import ROOT
from crosstune.bi_encoder import SentenceTransformerEmbedder
from crosstune.checkpoints import resolve
from crosstune.evaluation import compare, estimate
from crosstune.integrations.redisvl_cache import GatedSemanticCache
from crosstune.recipes.settings import TuneSettings
from crosstune.recipes.tune import tune
from crosstune.retrieval.stores import embedded_redis

RESULTS = ROOT / "benchmarks" / "results" / "rag"
_ALL, _SHOWN = 2.0, 5
_WIDER = (1.0, 1.1, 1.25, 1.5, 2.0)


@dataclass(frozen=True, slots=True)
class Asked:
    """A paraphrase, its thread, and the original question."""

    text: str
    thread: str
    original: str


def main() -> None:
    """Tune, fill the cache, ask, count."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--minutes", type=float, default=10.0)
    options = parser.parse_args()
    asked = _paraphrases(options.data / "queries.jsonl")
    with tempfile.TemporaryDirectory() as temporary, embedded_redis() as server:
        run = Path(temporary) / "run"
        file = _write(asked, Path(temporary) / "paraphrases.csv")
        settings = TuneSettings(budget_s=60 * options.minutes, stages="reranker", depth=20)
        finished = tune(file, run, settings, say=print)
        splits = json.loads((run / "splits.json").read_text(encoding="utf-8"))
        of_split = {name: {splits["questions"][q] for q in splits[name]} for name in ("dev", "test")}
        dev, test = ([one for one in asked if one.text in of_split[name]] for name in ("dev", "test"))
        sides = _sides(server.url, sorted({one.original for one in asked}), run, dev)
        groups = [one.thread for one in test]
        report = _report({name: _ask(side, test) for name, side in sides.items()}, groups)
    report |= {"n_dev": len(dev), "tuning": finished.verdict_sentence, "machine": machine()}
    RESULTS.mkdir(parents=True, exist_ok=True)
    (RESULTS / "cache-gate.json").write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(report, indent=2))


def _paraphrases(path: Path) -> list[Asked]:
    """Ids are q<thread>-<number>, number 0 for the original."""
    texts = {row["_id"]: row["text"] for row in map(json.loads, path.read_text(encoding="utf-8").splitlines())}
    threads = {query_id: query_id.split("-")[0] for query_id in texts}
    return [
        Asked(text, threads[query_id], texts[f"{threads[query_id]}-0"])
        for query_id, text in texts.items()
        if not query_id.endswith("-0")
    ]


def _write(asked: Sequence[Asked], path: Path) -> Path:
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("Question", "Answer"), *((one.text, one.original) for one in asked)])
    return path


@dataclass(frozen=True, slots=True)
class Side:
    """Question, and the original that may not be hit (None for all may) -> prompt of the hit, None for no hit."""

    hit: Callable[[str, str | None], str | None]


def _sides(url: str, originals: Sequence[str], run: Path, dev: Sequence[Asked]) -> dict[str, Side]:
    cache = _cache(url, originals)
    threshold, gate = _best_threshold(cache, dev), GatedSemanticCache(cache, run)
    wider = max((threshold * factor for factor in _WIDER), key=lambda t: _balanced(_ask(Side(_gated(gate, t)), dev)))
    return {
        "cache, RedisVL's threshold of 0.1": Side(_nearest(cache, 0.1)),
        "cache, threshold chosen on dev": Side(_nearest(cache, threshold)),
        "cache with the gate, both thresholds chosen on dev": Side(_gated(gate, wider)),
        "cache with the gate, threshold as without it": Side(_gated(gate, threshold)),
    }


def _balanced(values: Mapping[str, np.ndarray]) -> float:
    """Balanced accuracy: right hits where there is one, no hit where there is none."""
    return float(values["right hits"].mean() + 1 - values["hits where nothing stored fits"].mean()) / 2


def _cache(url: str, originals: Sequence[str]) -> Any:
    from redisvl.extensions.cache.llm import SemanticCache
    from redisvl.utils.vectorize import CustomVectorizer

    embedder = SentenceTransformerEmbedder(resolve("embedded"), precision="fp32")
    vectorizer = CustomVectorizer(lambda text, **_: embedder.embed_queries([text])[0].tolist())
    cache = SemanticCache(name="cache", vectorizer=vectorizer, redis_url=url, overwrite=True, distance_threshold=_ALL)
    for original in originals:
        cache.store(original, "answer")
    return cache


def _nearest(cache: Any, threshold: float) -> Callable[[str, str | None], str | None]:
    def hit(question: str, absent: str | None) -> str | None:
        found = _without(cache.check(question, num_results=_SHOWN, distance_threshold=threshold), absent)
        return found[0]["prompt"] if found else None

    return hit


def _gated(gate: GatedSemanticCache, threshold: float) -> Callable[[str, str | None], str | None]:
    def hit(question: str, absent: str | None) -> str | None:
        found = _without(gate.check(question, num_results=_SHOWN, distance_threshold=threshold), absent)
        return found[0]["prompt"] if found else None

    return hit


def _without(hits: Sequence[Mapping[str, Any]], absent: str | None) -> list[Mapping[str, Any]]:
    """What a cache that lacks a prompt would have found."""
    return [hit for hit in hits if hit["prompt"] != absent]


def _best_threshold(cache: Any, dev: Sequence[Asked]) -> float:
    """The distance with the best balanced accuracy: right hits where there is one, no hit where there is none."""
    right, wrong = [], []
    for one in dev:
        hits = cache.check(one.text, num_results=_SHOWN, distance_threshold=_ALL)
        distances = [(float(hit["vector_distance"]), hit["prompt"]) for hit in hits]
        right.append(distances[0][0] if distances[0][1] == one.original else np.inf)
        wrong.append(next(distance for distance, prompt in distances if prompt != one.original))
    candidates = sorted({*right, *wrong} - {np.inf})
    return max(candidates, key=lambda t: np.mean(np.array(right) <= t) + np.mean(np.array(wrong) > t))


def _ask(side: Side, test: Sequence[Asked]) -> dict[str, np.ndarray]:
    """Measure -> 0 or 1 for each paraphrase."""
    present = [side.hit(one.text, None) for one in test]
    absent = [side.hit(one.text, one.original) for one in test]
    originals = [one.original for one in test]
    return {
        "right hits": np.array([float(p == o) for p, o in zip(present, originals, strict=True)]),
        "wrong hits": np.array([float(p is not None and p != o) for p, o in zip(present, originals, strict=True)]),
        "hits where nothing stored fits": np.array([float(a is not None) for a in absent]),
    }


def _report(values: Mapping[str, Mapping[str, np.ndarray]], groups: Sequence[str]) -> dict[str, Any]:
    rows = {
        name: {measure: _plain(estimate(found, groups)) for measure, found in of_side.items()}
        for name, of_side in values.items()
    }
    baseline, gated = "cache, threshold chosen on dev", "cache with the gate, both thresholds chosen on dev"
    gains = {
        measure: _plain(
            compare(measure, baseline, gated, values[baseline][measure], values[gated][measure], groups).delta
        )
        for measure in values[gated]
    }
    return {"shares of test paraphrases": rows, f"{gated} minus {baseline}": gains}


def _plain(found: Any) -> dict[str, float]:
    return {key: round(getattr(found, key), 4) for key in ("mean", "ci_low", "ci_high", "n")}


if __name__ == "__main__":
    main()
