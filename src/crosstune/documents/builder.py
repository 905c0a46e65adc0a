"""Blocks of a document to one text in which headings are found again."""

from __future__ import annotations

from crosstune.documents.document import Heading

PARAGRAPH = "\n\n"
LINE = "\n"


class TextBuilder:
    """Joins blocks to a text and remembers where its headings stand.

    Attributes:
        headings: So far.
    """

    def __init__(self) -> None:
        self.headings: list[Heading] = []
        self._parts: list[str] = []
        self._length = 0

    @property
    def text(self) -> str:
        """All blocks so far."""
        return "".join(self._parts)

    def add(self, block: str, gap: str = PARAGRAPH) -> int:
        """Add a block below the others, if there is anything in it.

        Args:
            gap: What sets it apart from the block above.

        Returns:
            Where it begins; the end of the text for a blank block.
        """
        block = block.strip("\n").rstrip()
        if not block:
            return self._length
        if self._parts:
            block = gap + block
        start = self._length + (len(gap) if self._parts else 0)
        self._parts.append(block)
        self._length += len(block)
        return start

    def add_heading(self, text: str, level: int) -> None:
        """Add a heading, on one line."""
        line = " ".join(text.split())
        if line:
            self.headings.append(Heading(self.add(line), level, line))
