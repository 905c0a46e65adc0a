"""Curves over time: python -m benchmarks.recipes.curves [SET ...], from the points that `run` wrote. Needs matplotlib.

Each set gives docs/curves-<set>.svg, of the sides that ran with several times: nDCG@10 against the minutes that a run
took in all, test as a line, dev as a thin dashed one, and the best untuned first stage on test as a dotted one. Seeds
that ran with one time only are dots.
"""

from __future__ import annotations

import sys
from collections import Counter
from typing import Any

from benchmarks.recipes.compare import best_untuned, judged
from benchmarks.recipes.run import OURS, POINTS, RESULTS, lines_of
from benchmarks.workload import ROOT

_COLOURS = ("#1f5fa8", "#b4551d", "#4f7f3a", "#7a4f9a")


def main() -> None:
    """Draw every set that has points."""
    for name in sys.argv[1:] or sorted(path.parent.name for path in RESULTS.glob(f"*/{POINTS}")):
        draw(name, lines_of(RESULTS / name / POINTS))


def draw(name: str, points: list[dict[str, Any]]) -> None:
    """Write one set's picture."""
    from matplotlib import pyplot
    from matplotlib.ticker import ScalarFormatter

    pyplot.rcParams["svg.hashsalt"] = name  # the same picture from the same points
    figure, axes = pyplot.subplots(figsize=(7.2, 4.4), layout="constrained")
    measured = {(point["side"], point["minutes"]) for point in points}
    several = {side for side, n in Counter(side for side, _ in measured).items() if n > 1}
    sides = sorted(several, key=lambda side: (side != OURS, side))
    seeds = sorted({point["seed"] for point in points})
    for side, colour in zip(sides, _COLOURS, strict=False):
        of_side = sorted((point for point in points if point["side"] == side), key=lambda point: point["took_min"])
        for seed in seeds:
            of_seed = [point for point in of_side if point["seed"] == seed]
            minutes, test, dev = ([point[key] for point in of_seed] for key in ("took_min", "test", "dev"))
            label = side if seed == of_side[0]["seed"] else None
            axes.plot(minutes, test, "o-", color=colour, label=label)
            axes.plot(minutes, dev, ".--", color=colour, linewidth=0.8)
    _, by_seed = judged(RESULTS / name)
    best = best_untuned(by_seed)
    axes.axhline(float(by_seed[best].mean()), color="#777777", linestyle=":", label=f"{best}, untuned")
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter(ScalarFormatter())
    axes.xaxis.set_minor_formatter(ScalarFormatter())
    axes.set_xlabel("minutes in all, from reading to ranking")
    axes.set_ylabel("nDCG@10: test, dev dashed")
    axes.set_title(name, loc="left")
    axes.grid(alpha=0.3)
    figure.legend(loc="outside lower left", ncols=2, frameon=False, fontsize="small")
    figure.savefig(ROOT / "docs" / f"curves-{name}.svg", metadata={"Date": None})
    pyplot.close(figure)


if __name__ == "__main__":
    main()
