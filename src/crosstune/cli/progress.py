"""Progress bars with time left, on stderr."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as RichProgress

from crosstune.progress import Advance, Progress, silent


@contextmanager
def bars(quiet: bool = False, console: Console | None = None) -> Iterator[Progress]:
    """Give a `Progress` that draws one bar for each task; finished bars stay, so that the log tells the story.

    Args:
        quiet: Draw nothing.
        console: Where to draw; messages printed to the same console stand above the bars. None for stderr.
    """
    if quiet:
        yield silent
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=30),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    with RichProgress(*columns, console=console or Console(stderr=True)) as progress:

        @contextmanager
        def start(label: str, total: int) -> Iterator[Advance]:
            if total == 0:  # Nothing to do, such as texts that are all in the cache: not worth a line.
                with silent(label, total) as nothing:
                    yield nothing
                return
            task = progress.add_task(label, total=total)

            def advance(n: int) -> None:
                progress.advance(task, n)

            try:
                yield advance
            finally:
                progress.stop_task(task)

        yield start
