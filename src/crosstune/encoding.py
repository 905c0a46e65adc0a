"""Which encoding a text file is in."""

from __future__ import annotations

import codecs
import io
from collections.abc import Callable
from pathlib import Path
from typing import TextIO

import charset_normalizer

from crosstune.errors import DataError

_CHUNK = 1 << 20
_BOMS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),  # before UTF-16, whose mark it begins with
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
# Above this share of bytes beyond ASCII a text is not in a Western language.
_MAX_WESTERN_SHARE = 0.2
_REMEDY = "pass --skip-bad-rows to read them as U+FFFD, or name another encoding with --encoding"


def open_text(path: Path, encoding: str, errors: str) -> tuple[TextIO, Callable[[], int]]:
    """A text file with its line ends untouched, and a function that says how many bytes of it are read."""
    raw = path.open("rb")
    return io.TextIOWrapper(raw, encoding=encoding, errors=errors, newline=""), raw.tell


def detect_encoding(path: Path, skip_bad_rows: bool = False, remedy: str = _REMEDY) -> tuple[str, str]:
    """Encoding of a file, and the error handler to decode it with.

    A byte-order mark decides; then whether the whole file is valid UTF-8; then the pattern of zero bytes of
    UTF-16; then Windows-1252 for text that is mostly ASCII, and a statistical guess for the rest.

    Args:
        skip_bad_rows: Accept UTF-8 with a few damaged bytes, which then read as U+FFFD.
        remedy: What else than to repair the line can be done about damaged UTF-8.

    Raises:
        DataError: UTF-8 that is damaged in places, or nothing known.
    """
    with path.open("rb") as file:
        head = file.read(_CHUNK)
    for mark, name in _BOMS:
        if head.startswith(mark):
            return name, "strict"
    zeros = head.count(0)
    if zeros > len(head) / 10:
        return ("utf-16-le" if head[1::2].count(0) > zeros / 2 else "utf-16-be"), "strict"
    bad_line = _first_invalid_line(path)
    if bad_line is None:
        return "utf-8", "strict"
    if _mostly_utf8(path):
        return _damaged(path, bad_line, skip_bad_rows, remedy)
    return _legacy(path), "strict"


def _first_invalid_line(path: Path) -> int | None:
    """Line number of the first byte that is not UTF-8; None when all of it is."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    line = 1
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            try:
                line += decoder.decode(chunk).count("\n")
            except UnicodeDecodeError as error:
                return line + error.object[: error.start].count(b"\n")
        try:
            decoder.decode(b"", final=True)
        except UnicodeDecodeError:
            return line
    return None


def _mostly_utf8(path: Path) -> bool:
    """Whether valid multi-byte characters far outnumber invalid bytes, as in no legacy encoding."""
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    valid = bad = 0
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            text = decoder.decode(chunk)
            lost = text.count("\ufffd")
            bad += lost
            valid += len(text) - len(text.encode("ascii", "ignore")) - lost
    return valid > 3 * bad


def _damaged(path: Path, line: int, skip_bad_rows: bool, remedy: str) -> tuple[str, str]:
    if skip_bad_rows:
        return "utf-8", "replace"
    raise DataError(
        f"line {line} has bytes that are not UTF-8, though most of the file is; repair that line, or {remedy}", path
    )


def _legacy(path: Path) -> str:
    with path.open("rb") as file:
        raw = file.read(4 * _CHUNK)
    share = sum(byte > 127 for byte in raw) / len(raw)
    if share <= _MAX_WESTERN_SHARE and _decodes(raw, "cp1252"):
        return "cp1252"
    best = charset_normalizer.from_bytes(raw).best()
    if best is None:
        raise DataError("no known encoding fits; name it with --encoding, or save the file as UTF-8", path)
    return best.encoding


def _decodes(raw: bytes, encoding: str) -> bool:
    try:
        raw.decode(encoding)
    except UnicodeDecodeError:
        return False
    return True
