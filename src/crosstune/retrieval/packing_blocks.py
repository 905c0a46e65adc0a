"""Blocks of a context: passages, with those that lie together in a document made one text."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from crosstune.types import Hit

CUT_MARK = " …"
_GAP = "\n"  # what stood between two chunks is not in either of them, and a line break reads well for all of it


@dataclass(frozen=True, slots=True)
class Block:
    """A passage, or several of one document that lie side by side.

    Attributes:
        rank: The best among its passages.
        passage_ids: In the order of the document.
        document_id: None for a passage that stands alone.
        title: Of its first passage.
        position: Of its last passage among the document's.
        start, end: Characters of the document's text; of the passage's for one that stands alone.
        cut: Whether the end of the text is missing.
    """

    rank: int
    passage_ids: tuple[str, ...]
    document_id: str | None
    title: str
    text: str
    position: int
    start: int
    end: int
    cut: bool = False

    def rendered(self, number: int) -> str:
        """The block as a language model reads it."""
        text = self.text + CUT_MARK if self.cut else self.text
        return f"[{number}] {self.title}\n{text}" if self.title else f"[{number}] {text}"

    def cut_at(self, length: int) -> Block:
        """The block with only the first `length` characters of its text, less blanks at the end."""
        text = self.text[:length].rstrip()
        return replace(self, text=text, end=self.start + len(text), cut=True)

    def extends(self, other: Block) -> bool:
        """Whether it shares characters with another block of its document and goes on where that one ends."""
        shares = self.document_id == other.document_id and self.start < other.end and other.start < self.end
        return self.document_id is not None and shares and not other.start <= self.start <= self.end <= other.end


def block_of(hit: Hit) -> Block:
    """A block of one passage."""
    passage, origin = hit.passage, hit.passage.origin
    title = " ".join(passage.title.split())
    if origin is None:
        return Block(hit.rank, (passage.passage_id,), None, title, passage.text, 0, 0, len(passage.text))
    place = (origin.position, origin.start, origin.end)
    return Block(hit.rank, (passage.passage_id,), origin.document_id, title, passage.text, *place)


def merged(pieces: Iterable[Block]) -> list[Block]:
    """Blocks in the order of documents: pieces whose spans overlap, or that follow each other, become one.

    Text that two pieces share is written once. Pieces that share none stay apart when their titles differ: the
    second heading would be lost.
    """
    blocks: list[Block] = []
    for piece in sorted(pieces, key=lambda p: (p.document_id is None, p.document_id or "", p.start, p.end)):
        added = _added(blocks[-1], piece) if blocks else None
        if added is None:
            blocks.append(piece)
        else:
            blocks[-1] = _joined(blocks[-1], piece, added)
    return blocks


def _added(block: Block, piece: Block) -> str | None:
    """What a piece that starts no earlier than the block's last one adds to its text; None when it stands apart."""
    if piece.document_id is None or piece.document_id != block.document_id:
        return None
    if block.cut or piece.cut:  # its missing end would be lost sight of in a larger block
        return None
    overlap = block.end - piece.start
    if overlap > 0:
        shared = block.text[-overlap:][: len(piece.text)]
        # Texts that differ there come from two versions of the document: joined, they would say what neither says.
        return piece.text[len(shared) :] if piece.text.startswith(shared) else None
    follows = overlap == 0 or piece.position <= block.position + 1
    if not follows or piece.title != block.title:
        return None
    return piece.text if overlap == 0 else _GAP + piece.text


def _joined(block: Block, piece: Block, added: str) -> Block:
    return replace(
        block,
        rank=min(block.rank, piece.rank),
        passage_ids=block.passage_ids + piece.passage_ids,
        text=block.text + added,
        position=max(block.position, piece.position),
        end=max(block.end, piece.end),
    )
