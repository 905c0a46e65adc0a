"""crosstune bench: how fast a model is on this machine, and how good."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from crosstune.cli.options import JsonOption, PrecisionOption, QuietOption, RuntimeOption, precision, seconds
from crosstune.cli.progress import bars
from crosstune.errors import ConfigError

if TYPE_CHECKING:
    from crosstune.report import LatencyReport


def bench(
    model: Annotated[Path, typer.Argument(help="Run folder that `crosstune tune` wrote, or the model folder in it.")],
    candidates: Annotated[str, typer.Option(help="Passages of one ranking.")] = "10,50,100,200",
    tokens: Annotated[str, typer.Option(help="Tokens of every question-passage pair.")] = "64,128,256,512",
    data: Annotated[
        Path | None,
        typer.Option(help="Your data (any that `tune` reads), cut and joined to the lengths; default: random words."),
    ] = None,
    repeat: Annotated[int, typer.Option(help="Rankings timed for each cell, fewer where time is short.")] = 7,
    budget: Annotated[str, typer.Option(help="Time for all cells; those that do not fit are left open.")] = "2m",
    out: Annotated[Path | None, typer.Option(help="Folder for latency.json, latency.md and latency.svg.")] = None,
    runtime: RuntimeOption = "auto",
    precision_name: PrecisionOption = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Time rankings of so many candidates and so many tokens on this machine.

    Median (p50) and 95th percentile (p95) of whole rankings, tokenising included, after a warm-up. The test quality of
    the run stands beside it.

    Example: crosstune bench runs/mine --candidates 20,100 --tokens 128,256
    """
    from crosstune.recipes.bench import BenchSettings
    from crosstune.recipes.bench import bench as measure
    from crosstune.report import latency_json, write_latency

    counts, lengths = _numbers(candidates, "--candidates"), _numbers(tokens, "--tokens")
    settings = BenchSettings(counts, lengths, repeat, seconds(budget), data)
    with bars(quiet) as progress:
        report = measure(model, settings, runtime=runtime, precision=precision(precision_name), progress=progress)
    if out is not None:
        write_latency(report, out)
    if as_json:
        typer.echo(json.dumps(latency_json(report), ensure_ascii=False, allow_nan=False))
    else:
        _show(report)


def _show(report: LatencyReport) -> None:
    from crosstune.report import LATENCY_COLUMNS, cell_texts, quality_lines

    typer.echo(f"{report.model}: {report.runtime}, {report.precision}")
    typer.echo(", ".join(f"{name} {value}" for name, value in report.machine.items()))
    table = Table()
    for column in LATENCY_COLUMNS:
        table.add_column(column, justify="right")
    for cell in report.cells:
        table.add_row(*cell_texts(cell))
    Console().print(table)
    for line in (*report.notes, *quality_lines(report)):
        typer.echo(line)


def _numbers(text: str, option: str) -> tuple[int, ...]:
    """Whole numbers with commas between them.

    Raises:
        ConfigError: Something else.
    """
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError as error:
        raise ConfigError(f"{option} must be whole numbers with commas between them, found {text!r}") from error
