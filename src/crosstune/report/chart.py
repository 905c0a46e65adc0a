"""Geometry of the dot-and-interval chart; the template draws it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from crosstune.types import TableRow

WIDTH = 720
ROW_HEIGHT = 30
LABEL_CHARACTERS = 46  # the longest name of a row is "tuned without known questions on tuned hybrid"
LABEL_WIDTH = 330
VALUE_WIDTH = 64
AXIS_HEIGHT = 28
_N_STEPS = 5


@dataclass(frozen=True, slots=True)
class Mark:
    """One row: a dot at the mean and, where there is an interval, a line from `low` to `high`; all in
    pixels."""

    name: str
    y: float
    mean: float
    low: float | None
    high: float | None
    text: str


@dataclass(frozen=True, slots=True)
class Chart:
    """Marks, axis ticks as (x, label), and the drawing's height, in pixels."""

    marks: tuple[Mark, ...]
    ticks: tuple[tuple[float, str], ...]
    height: int


def interval_chart(rows: Sequence[TableRow], measure: str) -> Chart:
    """Place one mark for each row on a common axis that holds all means and intervals."""
    estimates = [row.measures[measure] for row in rows]
    values = [v for e in estimates for v in (e.mean, e.ci_low, e.ci_high) if math.isfinite(v)]
    ticks = _ticks(min(values), max(values))

    def x(value: float) -> float:
        share = (value - ticks[0]) / (ticks[-1] - ticks[0])
        return round(LABEL_WIDTH + share * (WIDTH - LABEL_WIDTH - VALUE_WIDTH), 1)

    marks = tuple(
        Mark(
            name=row.name,
            y=(index + 0.5) * ROW_HEIGHT,
            mean=x(e.mean),
            low=x(e.ci_low) if math.isfinite(e.ci_low) else None,
            high=x(e.ci_high) if math.isfinite(e.ci_high) else None,
            text=f"{e.mean:.3f}",
        )
        for index, (row, e) in enumerate(zip(rows, estimates, strict=True))
    )
    labels = tuple((x(tick), f"{tick:.2f}") for tick in ticks)
    return Chart(marks, labels, len(rows) * ROW_HEIGHT + AXIS_HEIGHT)


def _ticks(low: float, high: float) -> list[float]:
    """Round numbers around low and high, about five steps apart."""
    span = max(high - low, 0.01)
    step = next(s for s in (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0) if span / s <= _N_STEPS)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(index * step, 2) for index in range(first, max(last, first + 1) + 1)]
