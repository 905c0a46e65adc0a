"""Rows of a table to documents."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from crosstune.cleaning import clean
from crosstune.documents.columns import TEXT_NAMES, Columns, find_columns
from crosstune.documents.document import Document, ReadLog
from crosstune.documents.rows import Table
from crosstune.documents.text_files import plain
from crosstune.errors import DataError

Claim = Callable[[str, Path, int], None]
"""Called with the id, file and row of a document that has an id of its own; refuses one that is taken."""


def require_text_column(table: Table, text_column: str | None, path: Path) -> None:
    """Refuse a table without a column of texts.

    Raises:
        DataError: It has rows, and no such column.
    """
    if not table.names or find_columns(table.names, text_column, path).text is not None:
        return
    wanted = f"a column {text_column!r}" if text_column is not None else f"a column {' or '.join(TEXT_NAMES)}"
    raise DataError(
        f"expected {wanted}, found {', '.join(map(repr, table.names))}; name the column of texts with --text-column",
        path,
    )


def documents_of(
    table: Table, document_id: str, text_column: str | None, path: Path, claim: Claim, log: ReadLog
) -> Iterator[Document]:
    """A document for each row that has a text.

    Args:
        document_id: Of the table.

    Raises:
        DataError: A row cannot be read, or its id is missing or taken.
    """
    row = 0
    for row, cells in table.rows:
        columns = find_columns(tuple(cells), text_column, path)
        name = f"{document_id}#{row}"
        # As answers are cleaned for tuning, so that the index and what is learnt agree.
        text = clean(plain(cells[columns.text]))[0] if columns.text is not None else ""
        if not text:
            log.skip(name, "the row has no text" if any(map(str.strip, cells.values())) else "the row is empty")
            continue
        if columns.row_id is not None:
            name = _own_id(cells, columns.row_id, path, row)
            claim(name, path, row)
        title = "" if columns.title is None else " ".join(plain(cells[columns.title]).split())
        yield Document(name, text, title, metadata=_metadata(cells, columns))
    if row == 0:
        log.skip(document_id, "the table has no rows")


def _own_id(cells: Mapping[str, str], column: str, path: Path, row: int) -> str:
    own = plain(cells[column]).strip()
    if not own:
        raise DataError(f"column {column!r} is empty; give every row an id, or rename the column", path, row)
    return own


def _metadata(cells: Mapping[str, str], columns: Columns) -> dict[str, str]:
    values = ((field, plain(cells[name]).strip()) for name, field in columns.metadata)
    return {field: value for field, value in values if value}
