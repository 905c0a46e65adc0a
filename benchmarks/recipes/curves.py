"""Curves over time: python -m benchmarks.recipes.curves [SET ...], from the points that `run` wrote. Needs matplotlib.

Each set gives docs/curves-<set>.svg: nDCG@10 against the minutes that a run took in all, test as a line, dev as a thin
dashed one.
"""

from __future__ import annotations

import sys
from typing import Any

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
    figure, axes = pyplot.subplots(figsize=(7.2, 4), layout="constrained")
    sides = sorted({point["side"] for point in points}, key=lambda side: (side != OURS, side))
    for side, colour in zip(sides, _COLOURS, strict=False):
        of_side = sorted((point for point in points if point["side"] == side), key=lambda point: point["took_min"])
        minutes = [point["took_min"] for point in of_side]
        axes.plot(minutes, [point["test"] for point in of_side], "o-", color=colour, label=side)
        axes.plot(minutes, [point["dev"] for point in of_side], ".--", color=colour, linewidth=0.8)
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter(ScalarFormatter())
    axes.xaxis.set_minor_formatter(ScalarFormatter())
    axes.set_xlabel("minutes in all, from reading to ranking")
    axes.set_ylabel("nDCG@10: test, dev dashed")
    axes.set_title(name, loc="left")
    axes.grid(alpha=0.3)
    axes.legend(frameon=False, fontsize="small")
    figure.savefig(ROOT / "docs" / f"curves-{name}.svg", metadata={"Date": None})
    pyplot.close(figure)


if __name__ == "__main__":
    main()
