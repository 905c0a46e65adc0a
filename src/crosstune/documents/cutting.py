"""A section to spans that fit into a number of tokens, with overlap."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from crosstune.documents.boundaries import best_cut, cut_inside_word, first_start, skip_blanks
from crosstune.documents.tokens import TokenOffsets

# A text of words that a tokenizer does not know can be one token whatever its length; it is cut all the same.
_CHARACTERS_PER_TOKEN = 10


@dataclass(frozen=True, slots=True)
class Cutter:
    """Cuts one section.

    Attributes:
        text: Of the whole document.
        end: Where the section ends.
        title: Read before the text of every span; its tokens count.
        max_tokens: Of title and text.
        overlap_tokens: Most tokens of a span that are repeated in the next.
    """

    text: str
    end: int
    title: str
    tokenizer: TokenOffsets
    max_tokens: int
    overlap_tokens: int

    def spans(self, start: int) -> Iterator[tuple[int, int]]:
        """Start and end of each span, no blanks at either side; together they hold all that is not blank."""
        fresh = begin = skip_blanks(self.text, start, self.end)  # `fresh`: the first character not in a span yet
        while fresh < self.end:
            stop = self._stop(begin, fresh)
            if stop is None:  # the overlap leaves no room for the next word
                stop = self._stop(fresh, fresh) or fresh + 1
                begin = fresh
            yield begin, stop
            fresh = skip_blanks(self.text, stop, self.end)
            begin = self._overlap(begin, stop, fresh)

    def _stop(self, begin: int, fresh: int) -> int | None:
        """Where a span that begins at `begin` ends; None when nothing from `fresh` on fits into it."""
        limit = self._reach(begin)
        while limit > fresh:
            stop = self._cut(begin, fresh, limit)
            if stop is None or self._fits(begin, stop):
                return stop
            limit = stop - 1  # the tokens of a part are not always those of the whole
        return None

    def _cut(self, begin: int, fresh: int, limit: int) -> int | None:
        if limit >= self.end:
            cut: int | None = self.end
        else:
            cut = best_cut(self.text, fresh, limit)
            if cut is None and begin == fresh:
                cut = cut_inside_word(self.text, fresh, limit)
        return None if cut is None else begin + len(self.text[begin:cut].rstrip())

    def _reach(self, begin: int) -> int:
        """The place up to which tokens fit."""
        window = self.text[begin : min(self.end, begin + self.max_tokens * _CHARACTERS_PER_TOKEN)]
        before = f"{self.title} " if self.title else ""
        spans = self.tokenizer.offsets(before + window)
        if len(spans) <= self.max_tokens:
            return begin + len(window)
        return begin + spans[self.max_tokens][0] - len(before)

    def _fits(self, begin: int, stop: int) -> bool:
        text = self.text[begin:stop]
        full = f"{self.title} {text}" if self.title else text
        return len(self.tokenizer.offsets(full)) <= self.max_tokens

    def _overlap(self, begin: int, stop: int, fresh: int) -> int:
        """Where the next span begins: before `stop` when something of this span is to be repeated."""
        spans = self.tokenizer.offsets(self.text[begin:stop]) if self.overlap_tokens else []
        if fresh >= self.end or len(spans) <= self.overlap_tokens:
            return fresh
        low = begin + spans[-self.overlap_tokens][0]
        return first_start(self.text, low, stop) or fresh
