"""The `crosstune` command: registers the verbs, turns errors into messages and exit codes."""

from __future__ import annotations

import os
import signal
import sys
from types import FrameType
from typing import Annotated

import typer
from rich.console import Console

from crosstune import __version__
from crosstune.cli.ask import ask
from crosstune.cli.bench import bench
from crosstune.cli.check import check
from crosstune.cli.evaluate import evaluate
from crosstune.cli.export import export
from crosstune.cli.index import index
from crosstune.cli.mcp import mcp
from crosstune.cli.predict import predict
from crosstune.cli.rank import rank
from crosstune.cli.search import search
from crosstune.cli.serve import serve
from crosstune.cli.synth import synth
from crosstune.cli.tune import tune
from crosstune.errors import CrosstuneError

app = typer.Typer(
    name="crosstune",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    help="Fine-tune a reranker on your own questions and answers, prove whether ranking got better, and use it.\n\n"
    "Start with [bold]crosstune check qa.csv[/bold], then [bold]crosstune tune qa.csv --out runs/mine[/bold].",
)
_GROUPS = {
    "Tune": (check, tune, evaluate, synth),
    "Use the model": (rank, predict, serve, export, bench),
    "Search documents with it": (index, search, ask, mcp),
}
for _title, _commands in _GROUPS.items():
    for _command in _commands:
        app.command(rich_help_panel=_title)(_command)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"crosstune {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    pass


class _StoppedByUser(BaseException):
    """Ctrl-C. Of its own kind, because typer would turn a KeyboardInterrupt into "Aborted!" and exit code 130."""


def _stop(number: int, frame: FrameType | None) -> None:
    raise _StoppedByUser


def main() -> None:
    """Run the command line. Exit codes: 0 better or done, 3 not proven, 4 worse, 2 usage or bad input, 1 else."""
    # Must stand before torch loads. Waiting threads that spin starve each other on a machine that others use too:
    # measured 4 times slower there, and no faster on an idle one (docs/experiments.md).
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    console = Console(stderr=True)
    signal.signal(signal.SIGINT, _stop)
    try:
        app()
    except CrosstuneError as error:
        console.print(f"[bold red]Error:[/bold red] {_escape(str(error))}", soft_wrap=True)
        sys.exit(2)
    except _StoppedByUser:
        console.print("\nStopped. The same command continues from where it was.")
        sys.exit(1)


def _escape(text: str) -> str:
    from rich.markup import escape

    return escape(text)
