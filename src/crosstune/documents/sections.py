"""A document's sections: what stands under one heading, and the path of headings above it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

from crosstune.documents.document import Document, Heading
from crosstune.documents.tokens import TokenOffsets
from crosstune.text import normalized

_ARROW = " > "


@dataclass(frozen=True, slots=True)
class Section:
    """A part of a document's text under one heading.

    Attributes:
        path: Title of the document and headings above, the most specific last.
        start, end: Characters of the document's text, the heading itself left out.
    """

    path: tuple[str, ...]
    start: int
    end: int


def sections(document: Document) -> Iterator[Section]:
    """Sections in the order of the text; blank ones are left out.

    A heading with nothing below it, neither text nor another heading, is a text itself: it can be all that the
    document says on its subject.
    """
    text = document.text
    first = document.headings[0].start if document.headings else len(text)
    if text[:first].strip():
        yield Section(_path(document, []), 0, first)
    above: list[Heading] = []
    for heading, following in zip(document.headings, [*document.headings[1:], None], strict=False):
        while above and above[-1].level >= heading.level:
            above.pop()
        start = heading.start + len(heading.text)
        end = len(text) if following is None else following.start
        if text[start:end].strip():
            yield Section(_path(document, [*above, heading]), start, end)
        elif following is None or following.level <= heading.level:
            yield Section(_path(document, above), heading.start, start)
        above.append(heading)


def _path(document: Document, headings: list[Heading]) -> tuple[str, ...]:
    parts = [" ".join(document.title.split()), *(heading.text for heading in headings)]
    # A page's title is often its first heading again.
    return tuple(part for above, part in pairwise(["", *parts]) if normalized(part) != normalized(above))


def fitted_title(path: tuple[str, ...], tokenizer: TokenOffsets, max_tokens: int) -> str:
    """The path as one title of at most `max_tokens` tokens.

    It is shortened from the left, so that the most specific heading stays; that one alone is cut at its end.
    """
    title = _ARROW.join(path)
    while len(spans := tokenizer.offsets(title)) > max_tokens:
        if len(path) == 1:
            cut = title[: spans[max_tokens][0]].strip()
            return cut.rsplit(maxsplit=1)[0] if " " in cut else cut
        path = path[1:]
        title = _ARROW.join(path)
    return title
