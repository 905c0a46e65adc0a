"""Tables of what `benchmarks.recipes.run` wrote: python -m benchmarks.recipes.compare [SET ...]

Every side beside ours on the same test questions: nDCG@10 with its interval, and the paired difference to ours; then
the mean of the differences over sets, with its interval: groups are resampled within each set. Where a side ran with
several seeds, a question counts with its mean over them, and their lowest and highest figure are told.
"""

from __future__ import annotations

import json
import sys
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from benchmarks.recipes.run import OURS, RESULTS, UNTUNED
from crosstune.data import read_qrels, read_run
from crosstune.evaluation import HEADLINE, per_query
from crosstune.evaluation.statistics import N_RESAMPLES, FloatArray, by_group, compare, estimate
from crosstune.types import Estimate, ScoreKind

_DEPTH = 50
_BEST = "the best untuned first stage of each set"


def main() -> None:
    """Print a table for each set, and the mean difference over sets."""
    differences: dict[str, list[FloatArray]] = defaultdict(list)
    for name in sys.argv[1:] or sorted(path.name for path in RESULTS.iterdir() if path.is_dir()):
        groups, by_seed = judged(RESULTS / name)
        values = {side: of_seeds.mean(axis=0) for side, of_seeds in by_seed.items()}
        print(f"\n{name}, {len(groups)} test questions")
        for side, of_seeds in by_seed.items():
            print(f"  {side:62} {_row(of_seeds, None if side == OURS else values[OURS], groups)}")
        for label, side in [*((side, side) for side in values if side != OURS), (_BEST, best_untuned(by_seed))]:
            differences[label].append(_resampled(values[OURS] - values[side], groups))
    print("\nmean of the differences over sets")
    for label, found in differences.items():
        means = np.mean(found, axis=0)  # (1 + resamples,); the first is not resampled
        low, high = np.quantile(means[1:], [0.025, 0.975])
        print(f"  ours minus {label:62} {means[0]:+.3f} ({low:+.3f} to {high:+.3f}) over {len(found)}")


def judged(folder: Path) -> tuple[list[str], dict[str, FloatArray]]:
    """The test questions' groups, and for each side the questions' nDCG@10 (seeds, questions)."""
    qrels = read_qrels(folder / "qrels.trec.gz")
    groups: dict[str, str] = json.loads((folder / "groups.json").read_text(encoding="utf-8"))
    found: dict[str, list[FloatArray]] = defaultdict(list)
    for path in sorted(folder.glob("*-[0-9].trec.gz")):
        run = read_run(path, ScoreKind.FUSED, _DEPTH)
        found[run.name.rpartition("-")[0]].append(per_query(run, qrels, list(groups), [HEADLINE])[HEADLINE])
    return list(groups.values()), {side: np.stack(of_seeds) for side, of_seeds in found.items()}


def best_untuned(by_seed: Mapping[str, FloatArray]) -> str:
    """The untuned first stage that ranks the test questions best."""
    return max(UNTUNED, key=lambda side: float(by_seed[side].mean()))


def _row(of_seeds: FloatArray, ours: FloatArray | None, groups: list[str]) -> str:
    values = of_seeds.mean(axis=0)
    row = _figure(estimate(values, groups), ".3f")
    if ours is not None:
        against = compare(HEADLINE, "theirs", OURS, values, ours, groups)
        row += f"  ours {_figure(against.delta, '+.3f')}, p {against.p_value:.3f}"
    if len(of_seeds) > 1:
        means = of_seeds.mean(axis=1)
        row += f"  {len(of_seeds)} seeds: {means.min():.3f} to {means.max():.3f}"
    return row


def _figure(estimate: Estimate, form: str) -> str:
    return f"{estimate.mean:{form}} ({estimate.ci_low:{form}} to {estimate.ci_high:{form}})"


def _resampled(differences: FloatArray, groups: list[str]) -> FloatArray:
    """Mean difference: (1 + resamples,), first of all groups as they are, then resampled."""
    sums, sizes = by_group(differences, groups)
    n = len(sums)
    drawn = np.random.default_rng(0).integers(n, size=(N_RESAMPLES, n))
    drawn = np.concatenate([np.arange(n)[None], drawn])
    return np.asarray(sums[drawn].sum(axis=1) / sizes[drawn].sum(axis=1))


if __name__ == "__main__":
    main()
