"""The option --cache of every verb that scores."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, TypeAlias

import typer

CacheOption: TypeAlias = Annotated[
    Path | None,
    typer.Option("--cache", help="File of scores (SQLite, no texts): pairs scored before are not scored again."),
]
