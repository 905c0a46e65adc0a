"""The report's table for the terminal."""

from __future__ import annotations

from collections.abc import Sequence

from crosstune.report.document import headline
from crosstune.report.figures import comparison_line, interval, number
from crosstune.types import EvalReport, TableRow


def text_table(evaluation: EvalReport) -> str:
    """Aligned plain text: a line for each ranking with its figures, then a line for each comparison."""
    rows = evaluation.table
    decisive = headline(evaluation)
    shown = [measure for measure in ("RR@10", "Success@1", _recall(rows[0])) if measure in rows[0].measures]
    lines = [("ranking", decisive, "95% interval", *shown, "n")]
    for row in rows:
        estimate = row.measures[decisive]
        figures = [number(row.measures[measure].mean) for measure in shown]
        lines.append((row.name, number(estimate.mean), interval(estimate), *figures, f"{estimate.n:,}"))
    text = _aligned(lines)
    comparisons = "\n".join(comparison_line(comparison) for comparison in evaluation.comparisons)
    return f"{text}\n\n{comparisons}" if comparisons else text


def _recall(row: TableRow) -> str:
    """The deepest recall of the table, "R@50" for 50 candidates: what any reranker could at most find."""
    recalls = [measure for measure in row.measures if measure.startswith("R@")]
    return max(recalls, key=lambda measure: int(measure[2:]), default="")


def _aligned(lines: Sequence[Sequence[str]]) -> str:
    """Names to the left, figures to the right, two blanks between columns."""
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    return "\n".join(
        "  ".join([line[0].ljust(widths[0]), *(cell.rjust(w) for cell, w in zip(line[1:], widths[1:], strict=True))])
        for line in lines
    )
