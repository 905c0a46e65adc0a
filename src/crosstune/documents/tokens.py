"""Where the tokens of a text stand: what documents are measured by."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from tokenizers import Tokenizer


class TokenOffsets(Protocol):
    """A tokenizer, as far as cutting needs one."""

    def offsets(self, text: str) -> list[tuple[int, int]]:
        """Start and end of each token of the text, in characters and in order, without special tokens."""
        ...


class FastTokenizer:
    """Measures by a tokenizer of the tokenizers library.

    Args:
        tokenizer: `backend_tokenizer` of a fast transformers tokenizer. It is copied: many come with a length to cut
            or to pad to, under which all long texts would have the same number of tokens.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = type(tokenizer).from_str(tokenizer.to_str())
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()

    def offsets(self, text: str) -> list[tuple[int, int]]:
        """Start and end of each token of the text, in characters and in order, without special tokens."""
        return self._tokenizer.encode(text, add_special_tokens=False).offsets
