"""Context packing: the passages that a language model reads, chosen to fit its budget of tokens."""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

from crosstune.errors import ConfigError
from crosstune.language import UNSEGMENTED
from crosstune.retrieval.packing_blocks import Block, block_of, merged
from crosstune.retrieval.packing_repeats import Wording, wording_of
from crosstune.types import Hit

Order: TypeAlias = Literal["best", "source", "edges"]
Reason: TypeAlias = Literal["no room", "near-duplicate", "below threshold"]

_SENTENCE_END = re.compile(r"[.!?…][\"'”’»)\]]*(?=\s)|[。！？][」』”’）]*|\n")
_WORD_END = re.compile(rf"[{UNSEGMENTED}]|\S(?=\s)")


@dataclass(frozen=True, slots=True)
class Citation:
    """What a number in the context stands for.

    Attributes:
        number: From 1, in the order of the text.
        passage_ids: The passages in the block, in the order of their document.
        document_id: None for a passage that stands alone.
        title: Of the block's first passage; may be empty.
        start, end: Characters of the document's text, end excluded; of the passage's for one that stands alone.
        cut: Whether the end of the passage is missing, because it alone is longer than the budget.
    """

    number: int
    passage_ids: tuple[str, ...]
    document_id: str | None
    title: str
    start: int
    end: int
    cut: bool


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A passage that is not in the context, and why: "no room", "near-duplicate" or "below threshold"."""

    passage_id: str
    reason: Reason


@dataclass(frozen=True, slots=True)
class Context:
    """What a language model gets to read.

    Attributes:
        text: Blocks "[1] title", a line break and the text, with blank lines between them; empty without passages.
        n_tokens: Of the text, markers and separators included; never above the budget.
        citations: One for each block, in the order of the text.
        left_out: In the order of ranks. Every hit is in a citation or here.
    """

    text: str
    n_tokens: int
    citations: tuple[Citation, ...]
    left_out: tuple[LeftOut, ...]


def pack(
    hits: Sequence[Hit],
    budget_tokens: int,
    count_tokens: Callable[[str], int],
    *,
    order: Order = "best",
    answers_only: bool = False,
) -> Context:
    """Choose passages for a context, best rank first, as long as they fit.

    A passage that repeats one chosen before it is left out. Chunks that lie side by side in a document become one
    block, what they share written once. A passage that does not fit is passed over, and shorter ones after it may
    still fit; when not even the first fits, it is cut at the end of a sentence, else of a word, and marked by "…".

    Args:
        hits: What a search returned.
        budget_tokens: Most tokens that the text may have, at least 1.
        count_tokens: Tokens of a text, as the language model counts them.
        order: "best" puts the best block first; "source" keeps a document's blocks together and in its order, the
            document with the best block first; "edges" puts the best blocks at both ends and the worst in the
            middle, where models read least (Liu et al., "Lost in the Middle", TACL 2024).
        answers_only: Leave out hits whose probability is under the no-answer threshold.

    Raises:
        ConfigError: A budget below 1, or another order.
    """
    if budget_tokens < 1:
        raise ConfigError(f"a context needs a budget of at least 1 token, found {budget_tokens}")
    if order not in get_args(Order):
        raise ConfigError(f"order is {order!r}; choose from {', '.join(get_args(Order))}")
    packer = _Packer(budget_tokens, count_tokens, order)
    left_out = []
    for hit in sorted(hits, key=lambda hit: hit.rank):
        reason = "below threshold" if answers_only and not hit.answers else packer.refused(hit)
        if reason:
            left_out.append(LeftOut(hit.passage.passage_id, reason))
    return packer.context(tuple(left_out))


class _Packer:
    """The pieces chosen so far. Blocks are made anew at each try: a piece can join two of them."""

    def __init__(self, budget_tokens: int, count_tokens: Callable[[str], int], order: Order) -> None:
        self._budget_tokens = budget_tokens
        self._count_tokens = count_tokens
        self._order = order
        self._chosen: list[tuple[Block, Wording]] = []
        self._n_tokens: dict[str, int] = {}

    def refused(self, hit: Hit) -> Reason | None:
        """Take a passage, or say why not."""
        piece = block_of(hit)
        wording = wording_of(piece.title, piece.text)
        # A chunk that overlaps a chosen one is no repeat of it: merged, it costs only what is new in it.
        if any(wording.repeats(other) and not piece.extends(block) for block, other in self._chosen):
            return "near-duplicate"
        taken = piece if self._fits(piece) else None if self._chosen else self._cut(piece)
        if taken is None:
            return "no room"
        self._chosen.append((taken, wording_of(taken.title, taken.text) if taken.cut else wording))
        return None

    def context(self, left_out: tuple[LeftOut, ...]) -> Context:
        blocks = self._blocks()
        text = _text(blocks)
        citations = tuple(
            Citation(number, b.passage_ids, b.document_id, b.title, b.start, b.end, b.cut)
            for number, b in enumerate(blocks, start=1)
        )
        return Context(text, self._count_tokens(text) if text else 0, citations, left_out)

    def _blocks(self, *more: Block) -> list[Block]:
        return _arranged(merged([*(block for block, _ in self._chosen), *more]), self._order)

    def _fits(self, piece: Block) -> bool:
        blocks = self._blocks(piece)
        # The texts alone, counted once each, tell what is far too long at little cost. The whole is counted too, since
        # tokens of parts do not add up to the tokens of their sum.
        if sum(self._n_own_tokens(block.text) for block in blocks) > self._budget_tokens:
            return False
        return self._count_tokens(_text(blocks)) <= self._budget_tokens

    def _n_own_tokens(self, text: str) -> int:
        """Tokens of a text less those that a tokenizer adds to every text."""
        for new in {text, ""} - self._n_tokens.keys():
            self._n_tokens[new] = self._count_tokens(new)
        return self._n_tokens[text] - self._n_tokens[""]

    def _cut(self, piece: Block) -> Block | None:
        """The longest beginning that fits; None when not even a word does."""
        whole = piece.text.rstrip()
        for ending in (_SENTENCE_END, _WORD_END):
            ends = [m.end() for m in ending.finditer(whole) if whole[: m.end()].strip() and m.end() < len(whole)]
            n_fit = bisect_left(ends, True, key=lambda end: not self._fits(piece.cut_at(end)))
            if n_fit:  # the end before it was tried and did fit
                return piece.cut_at(ends[n_fit - 1])
        return None


def _text(blocks: Sequence[Block]) -> str:
    return "\n\n".join(block.rendered(number) for number, block in enumerate(blocks, start=1))


def _arranged(blocks: Sequence[Block], order: Order) -> list[Block]:
    best_first = sorted(blocks, key=lambda block: block.rank)
    if order == "best":
        return best_first
    if order == "edges":  # 1 3 5 ... 6 4 2
        return best_first[::2] + best_first[1::2][::-1]
    best_rank: dict[object, int] = {}
    for block in best_first:
        best_rank.setdefault(_source(block), block.rank)
    return sorted(blocks, key=lambda block: (best_rank[_source(block)], block.start))


def _source(block: Block) -> object:
    return block.passage_ids if block.document_id is None else block.document_id
