"""What a file is read into, and what was not read."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

_NO_METADATA: Mapping[str, str] = MappingProxyType({})

MAX_LISTED = 1000
"""Skipped documents that a `ReadLog` lists. Its counts are exact beyond it."""


@dataclass(frozen=True, slots=True)
class Heading:
    """A heading of a document: `document.text[start:start + len(text)] == text`.

    Attributes:
        level: 1 for the highest.
        text: One line.
    """

    start: int
    level: int
    text: str


@dataclass(frozen=True, slots=True)
class Document:
    """One text of the user's: a file, or a row of a table.

    Attributes:
        document_id: Path below the folder that was read, "faq.csv#12" for data row 12, or the row's own id.
        text: Plain text; blocks are set apart by empty lines.
        title: Its name for a reader; "" where the format gives none.
        headings: In the order of the text.
        metadata: Names are cleaned by `field_name`; there are no empty values.
        pages: Character of the text at which each page begins; empty where there are no pages.
    """

    document_id: str
    text: str
    title: str = ""
    headings: tuple[Heading, ...] = ()
    metadata: Mapping[str, str] = field(default_factory=lambda: _NO_METADATA)
    pages: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Skipped:
    """A document that was not read, and why."""

    document_id: str
    reason: str


class ReadLog:
    """Collects what `read_documents` passes over; complete when its documents are used up.

    Attributes:
        skipped: The first `MAX_LISTED` documents that were not read.
        counts: Reason -> exact number of documents.
        unknown: Ending of a file name, for example ".docx", or "" -> number of files of this kind, which
            cannot be read.
    """

    def __init__(self) -> None:
        self.skipped: list[Skipped] = []
        self.counts: Counter[str] = Counter()
        self.unknown: Counter[str] = Counter()

    def skip(self, document_id: str, reason: str) -> None:
        """A document is passed over."""
        self.counts[reason] += 1
        if len(self.skipped) < MAX_LISTED:
            self.skipped.append(Skipped(document_id, reason))
