"""The SQLite file that holds one version of an index, and what its errors mean."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from crosstune.errors import StoreError
from crosstune.lexical import Cut
from crosstune.types import Origin, Passage

# Vectors have a table of their own: searching by vector reads all of them and no text. A row's number is never
# given again, so it names one vector for good: the graph (vectors.py) is brought up to date by it.
_TABLES = """
CREATE TABLE IF NOT EXISTS passages (
    row INTEGER PRIMARY KEY AUTOINCREMENT,
    passage_id TEXT NOT NULL UNIQUE,
    text TEXT NOT NULL,
    title TEXT NOT NULL,
    terms TEXT NOT NULL,
    metadata TEXT NOT NULL,
    document TEXT,
    position INTEGER,
    start INTEGER,
    "end" INTEGER,
    digest TEXT NOT NULL
);
CREATE TABLE IF NOT EXISTS vectors (row INTEGER PRIMARY KEY, vector BLOB NOT NULL);
"""
# "terms" are the words of title and text, cut and stemmed when they are written: that takes a hundred times longer than
# to count them, and a search from the command line begins with nothing in memory.
_PARTS = 'passage_id, text, title, metadata, document, position, start, "end"'
_BUSY_TIMEOUT_S = 30.0
_ROWS_AT_ONCE = 500  # SQLite takes 999 values in older builds


@contextmanager
def explained(location: str) -> Iterator[None]:
    """Turn SQLite's errors into ones that say what to do.

    Raises:
        StoreError: Anything that SQLite or the file system refused.
    """
    try:
        yield
    except sqlite3.Error as error:
        raise StoreError(f"the index at {location} {_meaning(error)} (SQLite: {error})") from error
    except OSError as error:
        raise StoreError(f"the index at {location} cannot be used: {error.strerror or error}") from error


def _meaning(error: sqlite3.Error) -> str:
    text = str(error)
    if "closed database" in text:
        return "was closed; open it again"
    if "disk is full" in text:
        return "has no room on its disk; free some and run again: what was written stays"
    if "locked" in text or "busy" in text:
        return "is being written by another program; wait for it to end"
    if "readonly" in text or "unable to open" in text:
        return "cannot be written; check the permissions of the folder and its files"
    if isinstance(error, sqlite3.OperationalError) and "no such" not in text:
        return "cannot be read or written"
    return "is damaged; remove its folder and index the documents again"


def connect(path: Path, *, create: bool = False) -> sqlite3.Connection:
    """Open the file; with `create` it is made where it is not there."""
    mode = "rwc" if create else "rw"
    connection = sqlite3.connect(
        f"{path.resolve().as_uri()}?mode={mode}", uri=True, timeout=_BUSY_TIMEOUT_S, check_same_thread=False
    )
    try:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")  # written is written, whenever the power fails
        if create:
            connection.executescript(_TABLES)
        connection.execute("SELECT 1 FROM passages, vectors LIMIT 1").fetchone()  # finds a file of another kind
    except sqlite3.Error:
        connection.close()
        raise
    return connection


def insert(
    connection: sqlite3.Connection,
    passages: Sequence[Passage],
    vectors: NDArray[np.float32],
    digests: Sequence[str],
    cut: Cut,
) -> None:
    """Add passages, which are not there, with their vectors (passages, dimensions); `cut` gives a text's terms."""
    cells = [
        (*_cells(passage), digest, " ".join(cut(passage.full_text)))
        for passage, digest in zip(passages, digests, strict=True)
    ]
    connection.executemany(
        f"INSERT INTO passages ({_PARTS}, digest, terms) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", cells
    )
    connection.executemany(
        "INSERT INTO vectors SELECT row, ? FROM passages WHERE passage_id = ?",
        [(vector.tobytes(), passage.passage_id) for vector, passage in zip(vectors, passages, strict=True)],
    )


def overwrite(connection: sqlite3.Connection, passage: Passage, digest: str, cut: Cut) -> bool:
    """Replace all but the vector of a passage; False when it is not there."""
    passage_id, *cells = _cells(passage)
    changed = connection.execute(
        'UPDATE passages SET text = ?, title = ?, metadata = ?, document = ?, position = ?, start = ?, "end" = ?, '
        "digest = ?, terms = ? WHERE passage_id = ?",
        (*cells, digest, " ".join(cut(passage.full_text)), passage_id),
    )
    return changed.rowcount == 1


def delete(connection: sqlite3.Connection, passage_ids: Sequence[str]) -> None:
    """Remove passages with their vectors; ids that are not there are passed over."""
    ids = [(passage_id,) for passage_id in passage_ids]
    connection.executemany("DELETE FROM vectors WHERE row = (SELECT row FROM passages WHERE passage_id = ?)", ids)
    connection.executemany("DELETE FROM passages WHERE passage_id = ?", ids)


def passages_of(connection: sqlite3.Connection, rows: Sequence[int]) -> dict[int, Passage]:
    """Row number -> passage, for those that are there."""
    found: dict[int, Passage] = {}
    for start in range(0, len(rows), _ROWS_AT_ONCE):
        some = rows[start : start + _ROWS_AT_ONCE]
        marks = ",".join("?" * len(some))
        for row, *cells in connection.execute(f"SELECT row, {_PARTS} FROM passages WHERE row IN ({marks})", some):
            found[row] = _passage(*cells)
    return found


def vectors_of(connection: sqlite3.Connection, rows: Sequence[int], dimensions: int) -> NDArray[np.float32]:
    """(len(rows), dimensions) in the order of rows, which are all there."""
    matrix = np.empty((len(rows), dimensions), dtype=np.float32)
    for start in range(0, len(rows), _ROWS_AT_ONCE):
        some = rows[start : start + _ROWS_AT_ONCE]
        places = {row: start + place for place, row in enumerate(some)}
        marks = ",".join("?" * len(some))
        for row, blob in connection.execute(f"SELECT row, vector FROM vectors WHERE row IN ({marks})", some):
            matrix[places[row]] = np.frombuffer(blob, dtype=np.float32)
    return matrix


def rows_of(connection: sqlite3.Connection, passage_ids: Sequence[str]) -> dict[str, int]:
    """passage_id -> row number, for those that are there."""
    found: dict[str, int] = {}
    for start in range(0, len(passage_ids), _ROWS_AT_ONCE):
        some = passage_ids[start : start + _ROWS_AT_ONCE]
        marks = ",".join("?" * len(some))
        found |= dict(connection.execute(f"SELECT passage_id, row FROM passages WHERE passage_id IN ({marks})", some))
    return found


def _cells(passage: Passage) -> tuple[str | int | None, ...]:
    origin = passage.origin
    place = (origin.document_id, origin.position, origin.start, origin.end) if origin else (None,) * 4
    metadata = json.dumps(dict(passage.metadata), ensure_ascii=False)
    return (passage.passage_id, passage.text, passage.title, metadata, *place)


def _passage(
    passage_id: str, text: str, title: str, metadata: str, document: str | None, position: int, start: int, end: int
) -> Passage:
    origin = None if document is None else Origin(document, position, start, end)
    return Passage(passage_id, text, title, json.loads(metadata), origin)
