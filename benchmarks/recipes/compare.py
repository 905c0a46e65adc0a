"""Tables of what `benchmarks.recipes.run` wrote: python -m benchmarks.recipes.compare [SET ...]

Every side beside ours on the same test questions: nDCG@10 with its interval, and the paired difference to ours; then
the mean of the differences over sets, with its interval: groups are resampled within each set.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np

from benchmarks.recipes.run import OURS, RESULTS
from crosstune.data import read_qrels, read_run
from crosstune.evaluation import HEADLINE, evaluate
from crosstune.evaluation.statistics import N_RESAMPLES, FloatArray, by_group
from crosstune.types import Estimate, EvalReport, ScoreKind

_DEPTH = 50
_UNTUNED = ("bm25", "dense", "hybrid")
_BEST = "the best untuned first stage of each set"


def main() -> None:
    """Print a table for each set, and the mean difference over sets."""
    names = sys.argv[1:] or sorted(path.name for path in RESULTS.iterdir() if path.is_dir())
    differences: dict[str, list[FloatArray]] = {}
    for name in names:
        for seed in _seeds(RESULTS / name):
            report = judged(RESULTS / name, seed)
            print(f"\n{name}, seed {seed}, {report.table[0].measures[HEADLINE].n} test questions")
            by_side = {c.baseline: c.delta for c in report.comparisons if c.measure == HEADLINE}
            for row in report.table:
                figure, delta = row.measures[HEADLINE], by_side.get(row.name)
                against = "" if delta is None else f"  ours {_figure(delta, '+.3f')}"
                print(f"  {row.name:48} {_figure(figure, '.3f')}{against}")
            quality = {row.name: row.measures[HEADLINE].mean for row in report.table}
            best = max((f"{untuned}-{seed}" for untuned in _UNTUNED), key=quality.__getitem__)
            for label, side in [*((side.removesuffix(f"-{seed}"), side) for side in by_side), (_BEST, best)]:
                differences.setdefault(label, []).append(_resampled(RESULTS / name, seed, report, side))
    print("\nmean of the differences over sets and seeds")
    for side, found in differences.items():
        means = np.mean(found, axis=0)  # (resamples,); the first is not resampled
        low, high = np.quantile(means[1:], [0.025, 0.975])
        print(f"  ours minus {side:48} {means[0]:+.3f} ({low:+.3f} to {high:+.3f}) over {len(found)}")


def _figure(estimate: Estimate, form: str) -> str:
    return f"{estimate.mean:{form}} ({estimate.ci_low:{form}} to {estimate.ci_high:{form}})"


def judged(folder: Path, seed: int) -> EvalReport:
    """All sides of one set and seed."""
    qrels = read_qrels(folder / f"qrels-{seed}.trec.gz")
    groups = json.loads((folder / f"groups-{seed}.json").read_text(encoding="utf-8"))
    paths = sorted(folder.glob(f"*-{seed}.trec.gz"))
    runs = [read_run(path, ScoreKind.FUSED, _DEPTH) for path in paths if not path.name.startswith("qrels-")]
    ours = f"{OURS}-{seed}"
    pairs = [(run.name, ours) for run in runs if run.name != ours]
    return evaluate(runs, qrels, list(groups), groups, pairs, _DEPTH, seed)


def _resampled(folder: Path, seed: int, report: EvalReport, side: str) -> FloatArray:
    """Mean difference of ours and a side: (1 + resamples,), first of all groups as they are, then resampled."""
    groups = json.loads((folder / f"groups-{seed}.json").read_text(encoding="utf-8"))
    ours, theirs = (report.per_query[name][HEADLINE] for name in (f"{OURS}-{seed}", side))
    sums, sizes = by_group(np.array([ours[q] - theirs[q] for q in ours]), [groups[q] for q in ours])
    n = len(sums)
    drawn = np.random.default_rng(0).integers(n, size=(N_RESAMPLES, n))
    drawn = np.concatenate([np.arange(n)[None], drawn])
    return np.asarray(sums[drawn].sum(axis=1) / sizes[drawn].sum(axis=1))


def _seeds(folder: Path) -> list[int]:
    names = [path.name.removesuffix(".trec.gz") for path in folder.glob(f"{OURS}-*.trec.gz")]
    return sorted(int(name.rsplit("-", 1)[1]) for name in names if name.count("-") == 1)


if __name__ == "__main__":
    main()
