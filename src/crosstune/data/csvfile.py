"""CSV and TSV: strict about rows, lenient about everything that can be found out."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TextIO

from crosstune.data.audit import AuditLog
from crosstune.data.records import Source, has_role_names
from crosstune.data.rows import Row, pair_records
from crosstune.data.settings import LoadSettings
from crosstune.encoding import detect_encoding, open_text
from crosstune.errors import DataError

_DELIMITERS = ",;\t|"
_SAMPLE_CHARACTERS = 1 << 18
_SAMPLE_ROWS = 50
# A quote that is never closed swallows the rest of the file; this is where we stop believing in it.
_MAX_FIELD_CHARACTERS = 1 << 24
_UNCLOSED = "a quoted field is still open at the end of the file"


def open_csv(path: Path, settings: LoadSettings, log: AuditLog) -> Source:
    """Open a delimited file with a header row.

    Raises:
        DataError: No header, no question or answer column, or (while streaming) a row that cannot be read.
    """
    encoding, errors = (
        (settings.encoding, "strict") if settings.encoding else detect_encoding(path, settings.skip_bad_rows)
    )
    delimiter = settings.delimiter or _find_delimiter(path, encoding, settings)
    file, position = open_text(path, encoding, errors)
    cells = _cells(file, delimiter, path, log)
    header = next(cells, None)
    if header is None:
        raise DataError("the file is empty; expected a header row and rows of questions and answers", path)
    names = _names(header[1], path)
    roles, records = pair_records(_rows(cells, names, log), names, settings, log, path)
    return Source(
        "tsv" if delimiter == "\t" else "csv",
        roles.as_columns(),
        records,
        os.path.getsize(path),
        position,
        encoding,
        delimiter,
    )


def _cells(file: TextIO, delimiter: str, path: Path, log: AuditLog) -> Iterator[tuple[int, list[str]]]:
    """Row number, 0 for the header, and cells; rows that are not CSV are refused."""
    csv.field_size_limit(_MAX_FIELD_CHARACTERS)
    row = 0
    with file:
        reader = csv.reader(file, delimiter=delimiter, strict=True)
        while True:
            try:
                cells = next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                if row:
                    log.start_row(row)
                _refuse(error, row, path, log)
            except UnicodeDecodeError as error:
                raise DataError(
                    f"bytes {error.object[error.start : error.end]!r} are not {error.encoding}; "
                    "name the right encoding with --encoding",
                    path,
                    row or None,
                ) from error
            else:
                yield row, cells
            row += 1


def _refuse(error: csv.Error, row: int, path: Path, log: AuditLog) -> None:
    cause = str(error)
    if row == 0:
        raise DataError(f"the header row cannot be read ({cause}); check its quotes", path) from error
    if "unexpected end of data" in cause or "field limit" in cause:
        log.refuse(row, "truncated-file", _UNCLOSED, "get the whole file, or close the quote")
    else:
        cause = f"text follows a closing quote ({cause})"
        log.refuse(row, "unreadable-row", cause, 'write a quote inside a quoted field as ""')


def _rows(cells: Iterator[tuple[int, list[str]]], names: Sequence[str], log: AuditLog) -> Iterator[Row]:
    for row, values in cells:
        if values and len(values) != len(names):
            log.start_row(row)
            cause = f"expected {len(names)} fields as in the header, found {len(values)}"
            log.refuse(row, "ragged-row", cause, "put fields that hold the delimiter or line ends in quotes")
        else:
            yield row, dict(zip(names, values, strict=False))


def _names(header: Sequence[str], path: Path) -> list[str]:
    """Column names without outer blanks; they must differ."""
    names = [name.strip("\ufeff \t\r\n\u00a0\u200b") for name in header]
    twice = sorted({name for name in names if name and names.count(name) > 1})
    if twice:
        raise DataError(f"the header has the column {twice[0]!r} more than once; rename one of them", path)
    return [name or f"column {position}" for position, name in enumerate(names, start=1)]


def _find_delimiter(path: Path, encoding: str, settings: LoadSettings) -> str:
    """The delimiter under which the header has the wanted columns and the rows have the header's width."""
    with path.open(encoding=encoding, errors="replace", newline="") as file:
        sample = file.read(_SAMPLE_CHARACTERS)
    return max(_DELIMITERS, key=lambda delimiter: _fit(sample, delimiter, settings))


def _fit(sample: str, delimiter: str, settings: LoadSettings) -> tuple[bool, float, int]:
    rows = _lenient_rows(csv.reader(io.StringIO(sample, newline=""), delimiter=delimiter))
    if not rows:
        return False, 0.0, 0
    width = len(rows[0])
    body = [row for row in rows[1:] if row]
    share = sum(len(row) == width for row in body) / len(body) if body and width > 1 else 0.0
    return has_role_names(rows[0], settings), share, width


def _lenient_rows(reader: Iterable[list[str]]) -> list[list[str]]:
    rows: list[list[str]] = []
    try:
        for row in reader:
            rows.append(row)
            if len(rows) > _SAMPLE_ROWS:
                break
    except csv.Error:
        pass  # a field over the limit under a wrong delimiter: what was read so far is enough to compare
    return rows
