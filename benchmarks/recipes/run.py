"""One set, one side: python -m benchmarks.recipes.run SIDE DATA [--minutes 5] [--seed 0]

SIDE is "crosstune" or a key of `RIVALS`; DATA a file or BEIR folder. Rankings of the test questions go to
benchmarks/results/recipes/<set>/<side>-<seed>.trec.gz with the judgments beside them, so that statistics can be redone;
`python -m benchmarks.recipes.compare` makes the tables. The split is the same for every seed; of ours the rankings of
the parts are kept for seed 0, the usual base and a limited time alone. The time is for training alone on the rivals'
side and for the whole run, judging included, on ours; runs.jsonl tells what each took in all, from reading to ranking,
and with --as-long-as RIVAL ours is given as much as its last run took. With --unlimited a recipe comes to its own end.

Every run is a line of points.jsonl, too: minutes, nDCG@10 of dev and of test; `python -m benchmarks.recipes.curves`
draws them. With --curve nothing else is written, so that a run with less time does not replace the one with all of it.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

from benchmarks.recipes.rivals import RIVALS
from benchmarks.workload import ROOT
from crosstune.checkpoints import EMBEDDED, STARTER, CheckpointKind, load_reranker, resolve
from crosstune.data import read_qrels, read_run, write_qrels, write_run
from crosstune.evaluation import HEADLINE, headline_mean
from crosstune.progress import silent
from crosstune.recipes.prepare import Prepared, Stopwatch, first_stages, read, select, split_questions
from crosstune.recipes.run_folder import RunFolder
from crosstune.recipes.settings import TuneSettings
from crosstune.recipes.tune import tune
from crosstune.types import Qrels, Run, ScoreKind

RESULTS = ROOT / "benchmarks" / "results" / "recipes"
OURS = "crosstune"
POINTS = "points.jsonl"
_UNLIMITED_MIN = 24 * 60.0
UNTUNED = ("bm25", "dense", "hybrid")
_OF_A_POINT = ("side", "seed", "minutes")


def main() -> None:
    """Run one side and write what it ranks."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("side", choices=[OURS, *RIVALS])
    parser.add_argument("data", type=Path)
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument("--as-long-as", choices=list(RIVALS), help="minutes: what this rival took in all on this set")
    parser.add_argument("--unlimited", action="store_true", help="as many minutes as the recipe wants")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--base", help="cross-encoder to start from; default: ours the starter, rivals the bare encoder"
    )
    parser.add_argument("--curve", action="store_true", help="a point of the curve over time, and no rankings")
    options = parser.parse_args()
    name = options.data.name if options.data.is_dir() else options.data.parent.name
    target = RESULTS / name
    target.mkdir(parents=True, exist_ok=True)
    minutes = options.minutes if options.as_long_as is None else _took(target, options.as_long_as)
    minutes = _UNLIMITED_MIN if options.unlimited else minutes
    base = options.base or (STARTER if options.side == OURS else EMBEDDED)
    settings = TuneSettings(seed=options.seed, base=base, budget_s=60 * minutes, drop_leaks=True)
    side = options.side if options.base is None else f"{options.side} from {options.base}"
    side += ", unlimited" if options.unlimited else ""
    start, said = time.monotonic(), dict[str, Any]()
    keep = not options.curve
    with tempfile.TemporaryDirectory() as temporary:
        if options.side == OURS:
            said = _ours(options.data, Path(temporary) / "run", settings, target if keep else None, side)
        else:
            prepared = _prepare(options.data, settings, Path(temporary) / "run")
            run = RIVALS[options.side](
                prepared, 60 * minutes, temporary, _loadable(base, f"{temporary}/base"), options.seed
            )
            said = {name: headline_mean(run, prepared.collection.qrels, ids) for name, ids in _judged(prepared).items()}
            if keep:
                _write_rival(run, side, prepared, target, options.seed)
    note = {"side": side, "seed": options.seed, "minutes": minutes, "base": base}
    note |= {"took_min": round((time.monotonic() - start) / 60, 2)} | said
    if keep:
        _remember(target / "runs.jsonl", note, ("side", "seed"))
    _remember(target / POINTS, {key: note[key] for key in (*_OF_A_POINT, "took_min", "dev", "test")}, _OF_A_POINT)


def _judged(prepared: Prepared) -> dict[str, Sequence[str]]:
    return {"dev": prepared.splits.dev, "test": prepared.splits.test}


def _write_rival(run: Run, side: str, prepared: Prepared, target: Path, seed: int) -> None:
    test, collection = prepared.splits.test, prepared.collection
    groups = {query_id: prepared.splits.groups[query_id] for query_id in test}
    _write_judgments({q: collection.qrels[q] for q in test}, groups, target)
    _write(select(run, test), side, target, seed)


def _loadable(base: str, folder: str) -> str:
    """A base as other libraries load it: the starter is stored in 8 bits."""
    found = resolve(base)
    if found.kind is CheckpointKind.ENCODER:
        return str(found.path)
    for part in load_reranker(found, dropout=None):
        part.save_pretrained(folder)
    return folder


def lines_of(path: Path) -> list[dict[str, Any]]:
    """What a file of notes holds, if it is there."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.is_file() else []


def _remember(path: Path, note: dict[str, Any], of: Sequence[str]) -> None:
    """A line for each value of these fields: the last run's."""
    others = [run for run in lines_of(path) if any(run[key] != note[key] for key in of)]
    path.write_text("".join(json.dumps(run) + "\n" for run in (*others, note)), encoding="utf-8")


def _took(target: Path, side: str) -> float:
    """Minutes that a rival's run on this set took in all."""
    return float(next(run["took_min"] for run in reversed(lines_of(target / "runs.jsonl")) if run["side"] == side))


def _prepare(data: Path, settings: TuneSettings, folder: Path) -> Prepared:
    loaded = read(data, settings, silent, print)
    splits = split_questions(loaded, settings, print)
    return first_stages(loaded, splits, settings, RunFolder(folder, {"recipe": "rival"}), Stopwatch(), silent, print)


def _write_judgments(qrels: Qrels, groups: Mapping[str, str], target: Path) -> None:
    write_qrels(qrels, target / "qrels.trec.gz")
    (target / "groups.json").write_text(json.dumps(groups), encoding="utf-8")


def _ours(data: Path, out: Path, settings: TuneSettings, target: Path | None, name: str) -> dict[str, Any]:
    report = tune(data, out, settings, say=print).report
    if target is not None:
        _write_ours(out, settings.seed, target, name)
    test = next(row["measures"][HEADLINE]["mean"] for row in report["table"] if row["name"] == "shipped")
    said = {key: report[key] for key in ("verdict", "shipped", "timings_s")}
    return said | {"dev": report["dev"]["shipped"], "test": test}


def _write_ours(out: Path, seed: int, target: Path, name: str) -> None:
    if name == OURS:  # parts of an earlier run that this one does not have
        for earlier in target.glob(f"{_slug(OURS)}-*{seed}.trec.gz"):
            if "-from-" not in earlier.name and "-unlimited-" not in earlier.name:
                earlier.unlink()
    splits = json.loads((out / "splits.json").read_text(encoding="utf-8"))
    _write_judgments(read_qrels(out / "qrels.trec"), {q: splits["groups"][q] for q in splits["test"]}, target)
    for path in (out / "runs").glob("*.trec"):
        untuned = path.stem in UNTUNED
        side = name if path.stem == "shipped" else path.stem if untuned else f"{name} {path.stem}"
        if side == name or (name == OURS and seed == 0 and not path.stem.startswith("ceiling")):
            _write(read_run(path, ScoreKind.FUSED), side, target, seed)


def _write(run: Run, side: str, target: Path, seed: int) -> None:
    """Six digits of a score tell them apart and nearly halve the file."""
    name = f"{_slug(side)}-{seed}"
    short = {
        query_id: tuple(replace(candidate, score=float(f"{candidate.score:.6g}")) for candidate in ranked)
        for query_id, ranked in run.candidates.items()
    }
    write_run(replace(run, name=name, candidates=short), target / f"{name}.trec.gz")


def _slug(side: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", side.lower()).strip("-")


if __name__ == "__main__":
    main()
