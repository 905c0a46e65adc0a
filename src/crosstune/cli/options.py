"""Options that several verbs share, and how their values are read."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, TypeAlias

import typer

from crosstune.errors import ConfigError

ModelOption: TypeAlias = Annotated[
    Path,
    typer.Option("--model", help="Model folder that `crosstune tune` wrote (or the --out folder it is in)."),
]
JsonOption: TypeAlias = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout.")]
QuietOption: TypeAlias = Annotated[bool, typer.Option("--quiet", "-q", help="No progress bars or messages.")]

PrecisionOption: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--precision",
        help="fp32 (torch: the same scores on every machine), bf16 (faster on some) or int8 (an export). Default: fp32 "
        "without exports, else what is fastest.",
    ),
]
RuntimeOption: TypeAlias = Annotated[
    str,
    typer.Option(
        "--runtime",
        help="torch, onnx or openvino (see `crosstune export`); auto takes the fastest of torch and the exports, and "
        "torch when nothing was exported.",
    ),
]
CacheOption: TypeAlias = Annotated[
    Path | None,
    typer.Option("--cache", help="File of scores (SQLite, no texts): pairs scored before are not scored again."),
]
QuestionColumn: TypeAlias = Annotated[str | None, typer.Option(help="Column of the question, if not found by name.")]
AnswerColumn: TypeAlias = Annotated[str | None, typer.Option(help="Column of the answer, if not found by name.")]
LabelColumn: TypeAlias = Annotated[str | None, typer.Option(help="Column of 0/1 or graded labels.")]
Delimiter: TypeAlias = Annotated[str | None, typer.Option(help="Field delimiter, if not found out.")]
Encoding: TypeAlias = Annotated[str | None, typer.Option(help="Text encoding, if not found out.")]
SkipBadRows: TypeAlias = Annotated[
    bool, typer.Option("--skip-bad-rows", help="Drop and report rows that cannot be read.")
]

_UNITS = {"": 1, "s": 1, "m": 60, "h": 3600}


def seconds(text: str) -> float:
    """Seconds of a duration such as "90", "90s", "10m" or "1.5h".

    Raises:
        ConfigError: Not a duration.

    >>> seconds("1.5h")
    5400.0
    """
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([smh]?)", text.strip().lower())
    if match is None:
        raise ConfigError(f"{text!r} is not a duration; write for example 90s, 10m or 1.5h")
    return float(match[1]) * _UNITS[match[2]]


def precision(value: str | None) -> str | None:
    """Check a --precision value.

    Raises:
        ConfigError: None of fp32, bf16, int8.
    """
    if value not in (None, "fp32", "bf16", "int8"):
        raise ConfigError(f"--precision must be int8, fp32 or bf16, found {value!r}")
    return value
