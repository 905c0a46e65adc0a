"""Text files of any encoding, and plain text."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import TextIO

from crosstune.documents.document import Document
from crosstune.encoding import detect_encoding, open_text
from crosstune.errors import DataError

_LONE_SURROGATE = re.compile("[\ud800-\udfff]")


def open_any_text(path: Path) -> tuple[TextIO, Callable[[], int]]:
    """A text file in the encoding it is in, and a function that says how many bytes of it are read.

    Raises:
        DataError: No known encoding fits.
    """
    return open_text(path, encoding_of(path), "strict")


def encoding_of(path: Path) -> str:
    """Name of the encoding a file is in.

    Raises:
        DataError: UTF-8 that is damaged in places, or nothing known.
    """
    return detect_encoding(path, remedy="save the file as UTF-8 anew")[0]


def read_any_text(path: Path) -> str:
    """The whole of a text file, as `plain` gives it.

    Raises:
        DataError: It is not text in any known encoding.
    """
    file, _ = open_any_text(path)
    with file:
        try:
            return plain(file.read())
        except UnicodeDecodeError as error:
            raise not_text(error, path) from error


def not_text(error: UnicodeDecodeError, path: Path) -> DataError:
    """The error to raise for bytes that do not fit the encoding of the rest of the file."""
    found = error.object[error.start : error.end]
    return DataError(f"expected {error.encoding} text, found the bytes {found!r}; save the file as UTF-8", path)


def plain(text: str) -> str:
    r"""Text with line ends of one kind (`\n`), without byte-order marks, null characters and halves of characters.

    Half of a surrogate pair, as JSON can hold it, is not text: it becomes U+FFFD, since tokenizers refuse it.
    """
    if _LONE_SURROGATE.search(text):
        text = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text.replace("\r\n", "\n").replace("\r", "\n").replace("\x00", "").replace("\ufeff", "")


def read_text(path: Path, document_id: str) -> Document:
    """Read a plain text file.

    Raises:
        DataError: It is not text in any known encoding.
    """
    return Document(document_id, read_any_text(path))
