"""Options that several verbs share, and how their values are read."""

from __future__ import annotations

import re
from collections.abc import Sequence
from enum import Enum
from pathlib import Path
from typing import Annotated, TypeAlias

import typer

from crosstune.errors import ConfigError
from crosstune.types import Condition

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
RedisOption: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--redis",
        envvar="CROSSTUNE_REDIS",
        help="Redis server of the index: redis://host:port, or redis://user@host:port. The password is taken from the "
        "environment variable CROSSTUNE_REDIS_PASSWORD.",
    ),
]
IndexName: TypeAlias = Annotated[str, typer.Option("--name", help="Name of the index in Redis.")]
StoreOption: TypeAlias = Annotated[
    Path | None, typer.Option("--store", help="Folder of the index, where no Redis is used. Default: crosstune-index.")
]
TunedModel: TypeAlias = Annotated[
    Path | None,
    typer.Option("--model", help="Tuned model to rerank with: the --out folder of `crosstune tune`. Default: none."),
]


class ModeName(str, Enum):
    """How an index is searched."""

    auto = "auto"
    vector = "vector"
    text = "text"
    hybrid = "hybrid"


ModeOption: TypeAlias = Annotated[
    ModeName,
    typer.Option(
        help="vector, text, hybrid, or auto: what the model was judged over, and hybrid without a model.",
    ),
]
ForeignEmbedder: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--embedder",
        help="Only for an index that crosstune did not make: the model its vectors are from ('embedded', a folder, or "
        "a hub id).",
    ),
]
WhereOption: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(
        "--where",
        help="Only passages whose metadata meet this, such as 'product=router', 'lang!=de', 'year>=2020' or "
        "'plan=basic|team' (either); several must all hold.",
    ),
]
DepthOption: TypeAlias = Annotated[int, typer.Option(help="Candidates that the index proposes.")]
QuestionColumn: TypeAlias = Annotated[str | None, typer.Option(help="Column of the question, if not found by name.")]
AnswerColumn: TypeAlias = Annotated[str | None, typer.Option(help="Column of the answer, if not found by name.")]
LabelColumn: TypeAlias = Annotated[str | None, typer.Option(help="Column of 0/1 or graded labels.")]
Delimiter: TypeAlias = Annotated[str | None, typer.Option(help="Field delimiter, if not found out.")]
Encoding: TypeAlias = Annotated[str | None, typer.Option(help="Text encoding, if not found out.")]
SkipBadRows: TypeAlias = Annotated[
    bool, typer.Option("--skip-bad-rows", help="Drop and report rows that cannot be read.")
]

DEFAULT_STORE = Path("crosstune-index")
_CONDITION = re.compile(r"\s*(\w+)\s*(!=|<=|>=|=|<|>)\s*(\S.*?)\s*")
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


def location(redis: str | None, name: str, store: Path | None) -> str:
    """Where an index is, from --redis and --name, or --store.

    Raises:
        ConfigError: Both are given.

    >>> location("redis://localhost:6379", "docs", None)
    'redis://localhost:6379/docs'
    """
    if redis is not None and store is not None:
        raise ConfigError("--redis (or CROSSTUNE_REDIS) and --store name two places; give one of them")
    if redis is None:
        return str(store or DEFAULT_STORE)
    server, mark, options = redis.partition("?")
    return f"{server.rstrip('/')}/{name}{mark}{options}"


def conditions(texts: Sequence[str] | None) -> tuple[Condition, ...]:
    """Conditions from --where.

    Raises:
        ConfigError: Not of the form field, operator, value.

    >>> conditions(["plan=basic|team", "year >= 2020"])[1]
    Condition(field='year', operator='>=', values=('2020',))
    """
    return tuple(_condition(text) for text in texts or ())


def _condition(text: str) -> Condition:
    match = _CONDITION.fullmatch(text)
    if match is None:
        raise ConfigError(f"--where {text!r} is no condition; write for example product=router or year>=2020")
    values = (value.strip() for value in match[3].split("|"))
    return Condition(match[1], match[2], tuple(values))


def precision(value: str | None) -> str | None:
    """Check a --precision value.

    Raises:
        ConfigError: None of fp32, bf16, int8.
    """
    if value not in (None, "fp32", "bf16", "int8"):
        raise ConfigError(f"--precision must be int8, fp32 or bf16, found {value!r}")
    return value
