"""A file or a folder to documents, one after the other."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeAlias

from crosstune.documents.document import Document, ReadLog
from crosstune.documents.html import read_html
from crosstune.documents.markdown import read_markdown
from crosstune.documents.pdf import read_pdf
from crosstune.documents.rows import Table, open_csv, open_jsonl, open_parquet
from crosstune.documents.tables import documents_of, require_text_column
from crosstune.documents.text_files import read_text
from crosstune.errors import DataError
from crosstune.progress import Progress, silent

_TEXTS: dict[str, Callable[[Path, str], Document]] = {
    ".txt": read_text,
    ".md": read_markdown,
    ".html": read_html,
    ".htm": read_html,
    ".pdf": read_pdf,
}
_TABLES: dict[str, Callable[[Path, str | None], Table]] = {
    ".csv": open_csv,
    ".tsv": open_csv,
    ".jsonl": open_jsonl,
    ".parquet": open_parquet,
}
ENDINGS = (*_TEXTS, *_TABLES)
"""Of files that can be read."""


@dataclass(frozen=True, slots=True)
class _File:
    path: Path
    document_id: str


_Opened: TypeAlias = tuple[Iterator[Document], Callable[[], int]]
"""Documents of a file, and how many of its bytes are read."""


def read_documents(
    path: str | Path, *, text_column: str | None = None, log: ReadLog | None = None, progress: Progress = silent
) -> Iterator[Document]:
    """Read the documents of a file, or of a folder and all folders in it; one is held at a time.

    .txt, .md, .html, .htm and .pdf files are a document each; every row of a .csv, .tsv, .jsonl or .parquet file
    is one. A table needs a column of texts; a title (title, heading, name) and an id (id, passage_id, doc_id,
    document_id) are used where it has them, and all other columns become metadata under their `field_name`,
    less empty cells and nested values.

    Files of a folder come in the order of their path. Hidden files and folders are passed over, and links to
    folders are not followed. In a folder, a file that cannot be read at all is skipped and logged; a single file,
    and a row of a table, is an error.

    Args:
        text_column: Column of the texts, for tables that name it otherwise than text, passage, content, answer,
            document or body.
        log: Collects what is passed over.
        progress: In bytes of the files.

    Raises:
        DataError: At once when there is nothing to read; while streaming when a file or a row cannot be read, or an
            id is there twice.
        MissingExtraError: A package that reads the format is not installed.
    """
    path = Path(path)
    log = ReadLog() if log is None else log
    if path.is_dir():
        files = list(_files(path, log))
        if not files:
            raise DataError(f"no file in the folder can be read{_kinds(log)}; expected {', '.join(ENDINGS)}", path)
        return _documents(files, True, text_column, log, progress)
    if not path.is_file():
        raise DataError(f"there is no such file or folder ({path}); check the path", path)
    if path.suffix.lower() not in ENDINGS:
        raise DataError(f"files of this kind cannot be read; expected {', '.join(ENDINGS)}", path)
    return _documents([_File(path, path.name)], False, text_column, log, progress)


def _kinds(log: ReadLog) -> str:
    kinds = [f"{count} {ending or 'without an ending'}" for ending, count in sorted(log.unknown.items())]
    return f" (found {', '.join(kinds)})" if kinds else ""


def _files(folder: Path, log: ReadLog) -> Iterator[_File]:
    """Files that can be read, in the order of their path below the folder."""
    for path in sorted(_visible(folder, log), key=lambda path: path.relative_to(folder).parts):
        document_id = path.relative_to(folder).as_posix()
        if path.suffix.lower() not in ENDINGS:
            log.unknown[path.suffix.lower()] += 1
        elif not path.is_file():
            log.skip(document_id, "this is a link to nothing, or no file")
        else:
            yield _File(path, document_id)


def _visible(folder: Path, log: ReadLog) -> Iterator[Path]:
    def refuse(error: OSError) -> None:
        raise DataError(f"the folder cannot be read ({error.strerror}); check its permissions", error.filename)

    for parent, folders, names in os.walk(folder, onerror=refuse):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in folders:
            if (link := Path(parent, name)).is_symlink():  # not followed: it can lead back up, and round for ever
                log.skip(link.relative_to(folder).as_posix(), "links to folders are not followed")
        yield from (Path(parent, name) for name in names if not name.startswith("."))


def _documents(
    files: list[_File], in_folder: bool, text_column: str | None, log: ReadLog, progress: Progress
) -> Iterator[Document]:
    claim = partial(_claim, {file.document_id: file.document_id for file in files})
    with progress("reading documents", sum(file.path.stat().st_size for file in files)) as advance:
        for file in files:
            size, done = file.path.stat().st_size, 0
            try:
                documents, position = _open(file, text_column, claim, log)
            except DataError as error:
                if not in_folder:
                    raise
                log.skip(file.document_id, str(error))
                documents, position = iter(()), lambda: 0
            for document in documents:
                yield document
                advance((read := min(position(), size)) - done)
                done = read
            advance(size - done)


def _open(file: _File, text_column: str | None, claim: Callable[[str, Path, int], None], log: ReadLog) -> _Opened:
    ending = file.path.suffix.lower()
    try:
        if ending in _TABLES:
            table = _TABLES[ending](file.path, text_column)
            require_text_column(table, text_column, file.path)
            rows = documents_of(table, file.document_id, text_column, file.path, claim, log)
            return rows, table.position
        document = _TEXTS[ending](file.path, file.document_id)
    except OSError as error:
        raise DataError(f"the file cannot be opened ({error.strerror}); check its permissions", file.path) from error
    if not document.text.strip():
        log.skip(file.document_id, "the file has no text")
        return iter(()), lambda: 0
    return iter([document]), lambda: 0


def _claim(taken: dict[str, str], document_id: str, path: Path, row: int) -> None:
    """Take an id for a row.

    Raises:
        DataError: Another row, or a file, has it.
    """
    if document_id in taken:
        raise DataError(f"the id {document_id!r} is that of {taken[document_id]} too; ids must differ", path, row)
    taken[document_id] = f"{path.name} row {row}"
