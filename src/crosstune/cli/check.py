"""`crosstune check FILE`: the state of the data before any training."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from crosstune.cli.options import (
    AnswerColumn,
    Delimiter,
    Encoding,
    JsonOption,
    LabelColumn,
    QuestionColumn,
    QuietOption,
    SkipBadRows,
)
from crosstune.cli.progress import bars

if TYPE_CHECKING:
    from crosstune.data import Audit, Finding
    from crosstune.recipes.check import CheckResult

_ROWS_SHOWN = 8


def check(
    path: Annotated[Path, typer.Argument(metavar="FILE", help="CSV, TSV, JSONL, Parquet, or a BEIR folder.")],
    question_column: QuestionColumn = None,
    answer_column: AnswerColumn = None,
    label_column: LabelColumn = None,
    delimiter: Delimiter = None,
    encoding: Encoding = None,
    skip_bad_rows: SkipBadRows = False,
    base: Annotated[
        str, typer.Option(help="Base model to be tuned: starter, embedded, a local folder or a hub id.")
    ] = "starter",
    findings: Annotated[Path | None, typer.Option(metavar="FILE", help="Write every finding to this CSV file.")] = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Audit a question/answer file without training: what is wrong with it, row by row, and is it enough?

    Every row that is dropped, merged or cleaned is reported with its number and reason.
    Row 1 is the first row after the header.

    Exit code 0 when the file could be read, 2 when it is refused.
    """
    from crosstune.data import LoadSettings
    from crosstune.recipes.check import check as run_check

    settings = LoadSettings(question_column, answer_column, label_column, delimiter, encoding, skip_bad_rows)
    with bars(quiet) as progress, _findings_file(findings) as sink:
        result = run_check(path, settings, base, progress, sink)
    if as_json:
        typer.echo(json.dumps(result.as_dict(), ensure_ascii=False))
    else:
        _show(result, Console())


@contextmanager
def _findings_file(path: Path | None) -> Iterator[Callable[[Finding], None] | None]:
    """Where findings stream to; the file is there whole or not at all."""
    if path is None:
        yield None
        return
    partial = Path(f"{path}.partial")
    try:
        with partial.open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["row", "kind", "action", "detail", "other_row"])

            def write(found: Finding) -> None:
                writer.writerow([found.row, found.kind, found.action, found.detail, found.other_row or ""])

            yield write
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def _show(result: CheckResult, console: Console) -> None:
    report = result.audit
    console.print(_summary(result))
    if report.counts:
        console.print(_kinds(report))
    if report.unlisted:
        unlisted = sum(report.unlisted.values())
        console.print(
            f"{unlisted:,} findings are counted, their rows are not kept in memory; --findings FILE writes them all."
        )
    for sentence in result.advice:
        console.print(f"• {escape(sentence)}")


def _summary(result: CheckResult) -> Table:
    report = result.audit
    table = Table(title=escape(report.path), show_header=False, title_justify="left")
    for name, value in _facts(result):
        table.add_row(name, escape(value))
    return table


def _facts(result: CheckResult) -> Iterator[tuple[str, str]]:
    report = result.audit
    form = [report.format, report.encoding, f"delimiter {report.delimiter!r}" if report.delimiter else ""]
    yield "read as", ", ".join(part for part in form if part)
    yield "columns", ", ".join(f"{role}: {name}" for role, name in report.columns.items())
    yield (
        "rows",
        f"{report.rows_read:,} read = {report.rows_used:,} used + {report.rows_merged:,} merged "
        f"+ {report.rows_dropped:,} dropped",
    )
    yield "questions", f"{report.n_queries:,} ({report.n_queries_with_relevant:,} with an answer)"
    yield "answers", f"{report.n_passages:,}"
    yield "independent groups", f"{report.n_groups:,} (questions in the largest: {report.largest_group:,})"
    yield "language", ", ".join(report.languages) or "none"
    share = result.unknown_token_share
    yield f"unknown to {result.base}", "not measured" if share is None else f"{share:.1%} of tokens"
    if result.smallest_gain is not None:
        yield (
            "expected test set",
            f"{result.expected_test:,} questions, {result.expected_test_groups:,} groups",
        )
        yield "smallest gain it shows", f"{result.smallest_gain:.3f} nDCG@10 (80% power, 5% level)"


def _kinds(report: Audit) -> Table:
    table = Table("finding", "count", "action", "rows")
    for kind, count in report.counts.items():
        found = [finding for finding in report.findings if finding.kind == kind]
        actions = "/".join(sorted({finding.action for finding in found}))
        rows = ", ".join(_where(finding) for finding in found[:_ROWS_SHOWN])
        table.add_row(kind, f"{count:,}", actions, rows + (", ..." if count > _ROWS_SHOWN else ""))
    return table


def _where(finding: Finding) -> str:
    return str(finding.row) if finding.other_row is None else f"{finding.row} (of {finding.other_row})"
