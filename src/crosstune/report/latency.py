"""How long reranking takes on a machine: the figures, as a table in Markdown and as a chart."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from crosstune.report.latency_chart import Point, latency_svg
from crosstune.types import Estimate

LATENCY_COLUMNS = ("tokens", "candidates", "p50 ms", "p95 ms", "pairs/s", "repeats")


@dataclass(frozen=True, slots=True)
class LatencyCell:
    """One question with so many candidates of so many tokens.

    Attributes:
        candidates: Passages of one ranking.
        tokens: Of every pair, special tokens included.
        p50_ms, p95_ms: Milliseconds of one ranking; None when the cell was not measured.
        pairs_per_s: Candidates over the median; None when not measured.
        n_repeats: Rankings timed; 0 when not measured.
    """

    candidates: int
    tokens: int
    p50_ms: float | None
    p95_ms: float | None
    pairs_per_s: float | None
    n_repeats: int


@dataclass(frozen=True, slots=True)
class LatencyReport:
    """Latency of a model on one machine, and its quality beside it.

    Attributes:
        model: What was measured.
        runtime, precision: What it ran in.
        machine: Processor, cores, threads, versions.
        cells: By tokens, then candidates.
        quality: Row of the run's report -> nDCG@10; empty when not known.
        quality_sentence: Where that is from, or why it is not known.
        notes: What was left out, and why.
    """

    model: str
    runtime: str
    precision: str
    machine: Mapping[str, str]
    cells: tuple[LatencyCell, ...]
    quality: Mapping[str, Estimate]
    quality_sentence: str
    notes: tuple[str, ...]


def latency_json(report: LatencyReport) -> dict[str, Any]:
    """The report as dictionaries, lists, strings and numbers; an interval that does not exist is null."""
    content = asdict(report)
    for values in content["quality"].values():
        values |= {key: None for key in ("ci_low", "ci_high") if not math.isfinite(values[key])}
    return content


def quality_lines(report: LatencyReport) -> list[str]:
    """One line for each known row, and where they are from."""
    rows = [f"{name}: nDCG@10 {e.mean:.3f} ({_interval(e)}, n {e.n})" for name, e in report.quality.items()]
    return [*rows, report.quality_sentence]


def _interval(estimate: Estimate) -> str:
    if not (math.isfinite(estimate.ci_low) and math.isfinite(estimate.ci_high)):
        return "no interval"
    return f"95% interval {estimate.ci_low:.3f} to {estimate.ci_high:.3f}"


def cell_texts(cell: LatencyCell) -> list[str]:
    """Tokens, candidates, p50, p95, pairs a second and repeats as they stand in tables."""
    shape = [str(cell.tokens), str(cell.candidates)]
    if cell.p50_ms is None or cell.p95_ms is None or cell.pairs_per_s is None:
        return [*shape, "not measured", "", "", ""]
    return [*shape, *(_figure(value) for value in (cell.p50_ms, cell.p95_ms, cell.pairs_per_s)), str(cell.n_repeats)]


def write_latency(report: LatencyReport, folder: Path) -> None:
    """Write latency.json, latency.md and, when anything was measured, latency.svg."""
    folder.mkdir(parents=True, exist_ok=True)
    content = json.dumps(latency_json(report), ensure_ascii=False, allow_nan=False, indent=2)
    (folder / "latency.json").write_text(content + "\n", encoding="utf-8")
    series = _series(report.cells)
    if series:
        title = f"Latency of {report.model} in {report.runtime} {report.precision}; latency.md has the figures"
        (folder / "latency.svg").write_text(latency_svg(series, title), encoding="utf-8")
    (folder / "latency.md").write_text(_markdown(report, with_chart=bool(series)), encoding="utf-8")


def _markdown(report: LatencyReport, with_chart: bool) -> str:
    lines = [
        f"# Latency of {report.model}",
        "",
        f"Runtime {report.runtime}, precision {report.precision}.",
        "",
        *(["![Latency](latency.svg)", ""] if with_chart else []),
        "| " + " | ".join(LATENCY_COLUMNS) + " |",
        "|" + " ---: |" * len(LATENCY_COLUMNS),
        *("| " + " | ".join(cell_texts(cell)) + " |" for cell in report.cells),
        "",
        *(f"- {note}" for note in report.notes),
        *([""] if report.notes else []),
        "## Machine",
        "",
        *(f"- {name}: {value}" for name, value in report.machine.items()),
        "",
        "## Quality",
        "",
        *(f"- {line}" for line in quality_lines(report)),
    ]
    return "\n".join(lines) + "\n"


def _series(cells: Sequence[LatencyCell]) -> dict[int, list[Point]]:
    """Tokens -> the points measured, by candidates."""
    series: dict[int, list[Point]] = {}
    for cell in sorted(cells, key=lambda cell: (cell.tokens, cell.candidates)):
        if cell.p50_ms is not None and cell.p95_ms is not None:
            series.setdefault(cell.tokens, []).append(Point(cell.candidates, cell.p50_ms, cell.p95_ms))
    return series


def _figure(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
