"""The latency chart: medians and a band up to the 95th percentile for every length, both axes in logarithms."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

WIDTH, HEIGHT = 720, 400
_LEFT, _RIGHT, _TOP, _BOTTOM = 64, 112, 34, 52
_LABEL_GAP = 15  # between labels at the lines' ends
_TICK_GAP = 34  # between labels of the axis of candidates

_STYLE = """<style>
:root { color-scheme: light dark; --ink: #1d2329; --soft: #57606a; --line: #d5dbe1; --mark: #1f5fa8; --paper: #ffffff; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e4e8ec; --soft: #a1abb5; --line: #39424b; --mark: #77b1f2; --paper: #14181c; }
}
.paper { fill: var(--paper); }
text { fill: var(--ink); font: 13px system-ui, sans-serif; }
.grid { stroke: var(--line); } .tick { fill: var(--soft); font-size: 12px; }
.band { fill: var(--mark); opacity: .18; } .median { fill: none; stroke: var(--mark); stroke-width: 2; }
.dot { fill: var(--mark); }
</style>"""


Scale = Callable[[float], float]


@dataclass(frozen=True, slots=True)
class Point:
    """One measured cell: candidates of a ranking and its milliseconds."""

    candidates: int
    p50_ms: float
    p95_ms: float


def latency_svg(series: Mapping[int, Sequence[Point]], title: str) -> str:
    """A drawing that stands alone.

    Args:
        series: Tokens of a pair -> points by ascending candidates; at least one point in all.
        title: Read out in place of the drawing.
    """
    points = [point for line in series.values() for point in line]
    counts = sorted({point.candidates for point in points})
    y_ticks = log_ticks(min(p.p50_ms for p in points), max(p.p95_ms for p in points))
    x = _scale(counts[0], counts[-1], _LEFT, WIDTH - _RIGHT)
    y = _scale(y_ticks[0], y_ticks[-1], HEIGHT - _BOTTOM, _TOP)
    middle = (_LEFT + WIDTH - _RIGHT) / 2
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
        f'aria-label="{_safe(title)}">',
        _STYLE,
        f'<rect class="paper" width="{WIDTH}" height="{HEIGHT}"/>',
        '<text class="tick" x="8" y="16">time of one ranking: median, band up to the 95th percentile</text>',
        *(_y_tick(y(tick), tick) for tick in y_ticks),
        *(_x_tick(x(count), count) for count in _apart(counts, x)),
        f'<text class="tick" x="{middle:g}" y="{HEIGHT - 10}" text-anchor="middle">candidates</text>',
    ]
    lines = {tokens: line for tokens, line in series.items() if line}
    for line in lines.values():
        parts.extend(_line([(x(p.candidates), y(p.p50_ms), y(p.p95_ms)) for p in line]))
    ends = {tokens: (x(line[-1].candidates), y(line[-1].p50_ms)) for tokens, line in lines.items()}
    parts.extend(_labels(ends))
    return "\n".join([*parts, "</svg>"]) + "\n"


def log_ticks(low: float, high: float) -> list[float]:
    """Numbers 1, 2 and 5 of every power of ten, from at most `low` to at least `high`."""
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    steps = [step * 10.0**power for power in range(first, last + 1) for step in (1, 2, 5)]
    start = max(step for step in steps if step <= low * (1 + 1e-9))
    end = min(step for step in steps if step >= high * (1 - 1e-9) and step > start)
    return [step for step in steps if start <= step <= end]


def _scale(low: float, high: float, start: float, end: float) -> Scale:
    """Logarithmic value to pixels; a single value stands in the middle."""
    if low == high:
        return lambda value: (start + end) / 2
    width = math.log(high / low)
    return lambda value: round(start + math.log(value / low) / width * (end - start), 1)


def _apart(counts: Sequence[int], x: Scale) -> list[int]:
    """The counts whose labels do not touch."""
    kept: list[int] = []
    for count in counts:
        if not kept or x(count) - x(kept[-1]) >= _TICK_GAP:
            kept.append(count)
    return kept


def _y_tick(y: float, value_ms: float) -> str:
    label = f"{value_ms / 1000:g} s" if value_ms >= 1000 else f"{value_ms:g} ms"
    return (
        f'<line class="grid" x1="{_LEFT}" x2="{WIDTH - _RIGHT}" y1="{y:g}" y2="{y:g}"/>'
        f'<text class="tick" x="{_LEFT - 8}" y="{y + 4:g}" text-anchor="end">{label}</text>'
    )


def _x_tick(x: float, count: int) -> str:
    bottom = HEIGHT - _BOTTOM
    return (
        f'<line class="grid" x1="{x:g}" x2="{x:g}" y1="{_TOP}" y2="{bottom}"/>'
        f'<text class="tick" x="{x:g}" y="{bottom + 17}" text-anchor="middle">{count}</text>'
    )


def _line(points: Sequence[tuple[float, float, float]]) -> list[str]:
    """Band, line and dots of one length; points are (x, y of p50, y of p95)."""
    there = [f"{x:g},{p50:g}" for x, p50, _ in points]
    back = [f"{x:g},{p95:g}" for x, _, p95 in reversed(points)]
    return [
        f'<polygon class="band" points="{" ".join(there + back)}"/>',
        f'<polyline class="median" points="{" ".join(there)}"/>',
        *(f'<circle class="dot" cx="{x:g}" cy="{p50:g}" r="3.5"/>' for x, p50, _ in points),
    ]


def _labels(ends: Mapping[int, tuple[float, float]]) -> list[str]:
    """The length beside each line's end, moved up where it would touch the one below."""
    texts, free = [], dict.fromkeys((x for x, _ in ends.values()), math.inf)
    for tokens, (x, y) in sorted(ends.items(), key=lambda end: -end[1][1]):
        y = min(y, free[x])
        free[x] = y - _LABEL_GAP
        texts.append(f'<text x="{x + 10:g}" y="{y + 4:g}">{tokens} tokens</text>')
    return texts


def _safe(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace('"', "&quot;")
