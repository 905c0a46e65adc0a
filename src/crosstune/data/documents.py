"""Passages to rank, as a person has them at hand: one text a line, or a column of a table."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from crosstune.data.jsonl import as_text
from crosstune.data.records import column_key
from crosstune.encoding import detect_encoding, open_text
from crosstune.errors import DataError
from crosstune.extras import require
from crosstune.files import require_file

_TEXT_NAMES = ("text", "passage", "content", "answer", "document", "body")
_SCORE_NAME = "firststagescore"
_ENDINGS = (".txt", ".csv", ".tsv", ".jsonl", ".parquet")

Row = tuple[int, Mapping[str, str]]


@dataclass(frozen=True, slots=True)
class Documents:
    """Passages in file order.

    Attributes:
        texts: One for each row.
        first_stage_scores: Higher is better; None when the file has none.
    """

    texts: tuple[str, ...]
    first_stage_scores: tuple[float, ...] | None


def read_documents(path: str | Path) -> Documents:
    """Read passages from .txt (one a line, blank lines skipped), .csv, .tsv, .jsonl or .parquet.

    Tables need a column named text, passage, content, answer, document or body; a column `first_stage_score` is
    read when every row has a number there.

    Raises:
        DataError: Not readable, no such column, an empty text, or a score that is not a number.
    """
    path = Path(path)
    require_file(path)
    rows = list(_rows(path))
    if not rows:
        raise DataError("the file has no passages; expected at least one", path)
    names = list(rows[0][1])
    column = next((n for wanted in _TEXT_NAMES for n in names if column_key(n) == wanted), None)
    if column is None:
        raise DataError(f"no column of passages among {', '.join(names)}; name one of them text", path)
    texts = [_text(path, row, cells, column) for row, cells in rows]
    score = next((name for name in names if column_key(name) == _SCORE_NAME), None)
    scores = None if score is None else tuple(_number(path, row, cells.get(score, "")) for row, cells in rows)
    return Documents(tuple(texts), scores)


def _rows(path: Path) -> Iterator[Row]:
    ending = path.suffix.lower()
    if ending == ".parquet":
        table = require("pyarrow.parquet", extra="parquet", what="reading Parquet").read_table(path)
        for number, row in enumerate(table.to_pylist(), start=1):
            yield number, {name: as_text(value) for name, value in row.items()}
    elif ending in _ENDINGS:
        encoding, errors = detect_encoding(path, False)
        file, _ = open_text(path, encoding, errors)
        with file:
            read = {".txt": _lines, ".jsonl": _objects}.get(ending, _table)
            yield from read(file, path)
    else:
        raise DataError(f"the ending {ending!r} names no known format; expected {', '.join(_ENDINGS)}", path)


def _lines(file: Iterator[str], path: Path) -> Iterator[Row]:
    for number, line in enumerate(file, start=1):
        if line.strip():
            yield number, {"text": line.strip()}


def _objects(file: Iterator[str], path: Path) -> Iterator[Row]:
    for number, line in enumerate(file, start=1):
        if not line.strip():
            continue
        try:
            value = json.loads(line)
        except ValueError as error:
            raise DataError(f"not JSON ({error}); every line must be an object or a text", path, number) from error
        yield (
            number,
            {n: as_text(v) for n, v in value.items()} if isinstance(value, dict) else {"text": as_text(value)},
        )


def _table(file: Iterator[str], path: Path) -> Iterator[Row]:
    header = next(file, "")
    delimiter = max(",;\t|", key=header.count)
    names = next(csv.reader([header], delimiter=delimiter), [])
    for number, cells in enumerate(csv.reader(file, delimiter=delimiter), start=1):
        if len(cells) not in (0, len(names)):
            raise DataError(f"expected {len(names)} fields as in the header, found {len(cells)}", path, number)
        if cells:
            yield number, dict(zip(names, cells, strict=True))


def _text(path: Path, row: int, cells: Mapping[str, str], column: str) -> str:
    text = cells.get(column, "").strip()
    if not text:
        raise DataError(f"column {column!r} is empty; every row needs a passage", path, row)
    return text


def _number(path: Path, row: int, value: str) -> float:
    try:
        return float(value)
    except ValueError as error:
        raise DataError(f"first_stage_score {value!r} is not a number; fix it or drop the column", path, row) from error
