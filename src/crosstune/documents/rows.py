"""Tables, row by row: CSV and TSV, JSONL, Parquet."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, TextIO, TypeAlias

from crosstune.documents.columns import has_text_column
from crosstune.documents.text_files import not_text, open_any_text
from crosstune.errors import DataError
from crosstune.extras import require

Row: TypeAlias = tuple[int, Mapping[str, str]]
"""Row number, the line number in JSONL, and column name -> value."""

_DELIMITERS = ",;\t|"
_SAMPLE_CHARACTERS = 1 << 18
_SAMPLE_ROWS = 50
# A quote that is never closed swallows the rest of the file; this is where we stop believing in it.
_MAX_FIELD_CHARACTERS = 1 << 24


@dataclass(frozen=True, slots=True)
class Table:
    """An open table.

    Attributes:
        names: Columns; those of the first row in JSONL, empty when there is no row.
        rows: Streams once.
        position: Bytes of the file that are read so far.
    """

    names: tuple[str, ...]
    rows: Iterator[Row]
    position: Callable[[], int]


def open_csv(path: Path, text_column: str | None) -> Table:
    """Open a delimited file with a header row; encoding and delimiter are found out.

    Args:
        text_column: Column of the texts, by which a delimiter is known to be right; None for the usual names.

    Raises:
        DataError: Two columns of one name, or (while streaming) a row that cannot be read.
    """
    csv.field_size_limit(_MAX_FIELD_CHARACTERS)
    file, position = open_any_text(path)
    records = _records(file, path, text_column)
    header = next(records, (0, []))[1]
    names = [name.strip("\ufeff \t\r\n\u00a0\u200b") or f"column {n}" for n, name in enumerate(header, start=1)]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise DataError(f"the header has the column {twice!r} more than once; rename one of them", path)
    return Table(tuple(names), _csv_rows(records, names, path), position)


def _records(file: TextIO, path: Path, text_column: str | None) -> Iterator[tuple[int, list[str]]]:
    """Number of the record, 0 for the header, and its cells."""
    row = 0
    with file:
        try:
            delimiter = _delimiter(file.read(_SAMPLE_CHARACTERS), text_column)
            file.seek(0)
            for row, cells in enumerate(csv.reader(file, delimiter=delimiter, strict=True)):
                yield row, cells
                row += 1
        except csv.Error as error:
            raise DataError(
                f'this is not CSV ({error}); write a quote inside of quotes as ""', path, row or None
            ) from error
        except UnicodeDecodeError as error:
            raise not_text(error, path) from error


def _csv_rows(records: Iterable[tuple[int, list[str]]], names: list[str], path: Path) -> Iterator[Row]:
    for row, cells in records:
        if cells and len(cells) != len(names):
            raise DataError(
                f"expected {len(names)} fields as in the header, found {len(cells)}; put fields that hold the "
                "delimiter or line ends in quotes",
                path,
                row,
            )
        yield row, dict(zip(names, cells, strict=False))


def _delimiter(sample: str, text_column: str | None) -> str:
    """The delimiter under which the header has a column of texts and the rows have the header's width."""
    return max(_DELIMITERS, key=lambda delimiter: _fit(sample, delimiter, text_column))


def _fit(sample: str, delimiter: str, text_column: str | None) -> tuple[bool, float, int]:
    rows: list[list[str]] = []
    try:
        for row in csv.reader(io.StringIO(sample, newline=""), delimiter=delimiter):
            rows.append(row)
            if len(rows) > _SAMPLE_ROWS:
                break
    except csv.Error:
        pass  # a field over the limit under a wrong delimiter: what was read so far is enough to compare
    if not rows:
        return False, 0.0, 0
    body = [row for row in rows[1:] if row]
    share = sum(len(row) == len(rows[0]) for row in body) / len(body) if body else 0.0
    return has_text_column(rows[0], text_column), share, len(rows[0])


def open_jsonl(path: Path, text_column: str | None) -> Table:
    """Open a file with one JSON object in each line; blank lines are passed over.

    Raises:
        DataError: The first line (or, while streaming, another) is not a JSON object.
    """
    file, position = open_any_text(path)
    rows = _jsonl_rows(file, path)
    first = next(rows, None)
    if first is None:
        return Table((), rows, position)
    return Table(tuple(first[1]), chain([first], rows), position)


def _jsonl_rows(file: TextIO, path: Path) -> Iterator[Row]:
    with file:
        try:
            for row, line in enumerate(file, start=1):
                if stripped := line.strip("\ufeff \t\r\n"):
                    yield row, _object(stripped, path, row)
        except UnicodeDecodeError as error:
            raise not_text(error, path) from error


def _object(line: str, path: Path, row: int) -> dict[str, str]:
    remedy = 'every line must be one JSON object such as {"text": "..."}'
    try:
        value = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise DataError(f"not JSON ({error}); {remedy}", path, row) from error
    if not isinstance(value, dict):
        raise DataError(f"found a JSON {type(value).__name__}, not an object; {remedy}", path, row)
    return {name: as_text(field) for name, field in value.items()}


def open_parquet(path: Path, text_column: str | None) -> Table:
    """Open a Parquet file, read batch by batch.

    Raises:
        DataError: Not a whole Parquet file.
        MissingExtraError: pyarrow is not installed.
    """
    arrow = require("pyarrow", extra="parquet", what="reading Parquet")
    parquet = require("pyarrow.parquet", extra="parquet", what="reading Parquet")
    try:
        file = parquet.ParquetFile(path)
    except arrow.ArrowInvalid as error:
        raise DataError(f"this is not a whole Parquet file ({error}); get or write it again", path) from error
    n_read = [0]
    bytes_per_row = path.stat().st_size / max(file.metadata.num_rows, 1)
    return Table(
        tuple(file.schema_arrow.names), _parquet_rows(file, path, n_read), lambda: int(n_read[0] * bytes_per_row)
    )


def _parquet_rows(file: Any, path: Path, n_read: list[int]) -> Iterator[Row]:
    arrow = require("pyarrow", extra="parquet", what="reading Parquet")
    with file:
        try:
            for batch in file.iter_batches(batch_size=1024):
                for row in batch.to_pylist():
                    n_read[0] += 1
                    yield n_read[0], {name: as_text(value) for name, value in row.items()}
        except (arrow.ArrowException, OSError) as error:
            raise DataError(f"the Parquet file is damaged ({error}); get or write it again", path) from error


def as_text(value: object) -> str:
    """A value as the text a CSV would have, and texts in a list with commas between them.

    What is missing (null, NaN), bytes, objects and lists of anything but texts, vectors for example, have none.
    """
    if isinstance(value, list):
        return ", ".join(value) if all(isinstance(item, str) for item in value) else ""
    if value is None or isinstance(value, dict | bytes) or (isinstance(value, float) and math.isnan(value)):
        return ""
    return str(value).lower() if isinstance(value, bool) else str(value)
