"""A question and passages that make pairs of exactly so many tokens."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path

from crosstune.data import load
from crosstune.errors import ConfigError
from crosstune.pair_encoding import PairEncoder

_SEED = 0
_N_WORDS = 50_000
# Blanks separate no words in Chinese or Japanese: longer "words" are cut, so that a passage can be filled with them.
_LONGEST_WORD = 12
_QUERY_TOKENS = 12
_MARKERS = "▁Ġ"


class BenchPairs:
    """Texts to measure with.

    Args:
        encoder: Of the model.
        data: The user's file or folder, whose texts are cut and joined; None for random words of the vocabulary.

    Raises:
        ConfigError: The vocabulary has no words of one token.
        DataError: The data cannot be read.
    """

    def __init__(self, encoder: PairEncoder, data: Path | None = None) -> None:
        self._encoder = encoder
        self._fill = one_token_words(encoder)
        chosen = random.Random(_SEED).choices(self._fill, k=_N_WORDS)
        self._query_words, self._words = (chosen, chosen) if data is None else _words_of(data)

    def texts(self, candidates: int, tokens: int) -> tuple[str, list[str]]:
        """A question and so many different passages (if the words allow), each pair of exactly `tokens` tokens.

        Raises:
            ConfigError: No room for a pair in `tokens`.
        """
        room = tokens - self._encoder.n_special
        if room < 2:
            raise ConfigError(f"a pair of this model has at least {self._encoder.n_special + 2} tokens, found {tokens}")
        n_query = min(_QUERY_TOKENS, room // 2)
        query = self._exactly(n_query, self._query_words)
        stride = max(1, len(self._words) // candidates)
        starts = [i * stride % len(self._words) for i in range(candidates)]
        return query, [self._exactly(room - n_query, _from(self._words, start, room)) for start in starts]

    def _exactly(self, n_tokens: int, words: Sequence[str]) -> str:
        """A text of `n_tokens` tokens: the most whole words that fit, then words of one token each."""
        low, high = 0, min(len(words), n_tokens)
        while low < high:  # the largest number of words that fits
            middle = (low + high + 1) // 2
            low, high = (middle, high) if self._count(words[:middle]) <= n_tokens else (low, middle - 1)
        for n_words in range(low, -1, -1):
            n_missing = n_tokens - self._count(words[:n_words])
            filled = [*words[:n_words], *(self._fill[i % len(self._fill)] for i in range(n_missing))]
            if self._count(filled) == n_tokens:
                return " ".join(filled)
        raise ConfigError(f"this model's tokenizer makes no text of {n_tokens} tokens; give your own texts with --data")

    def _count(self, words: Sequence[str]) -> int:
        return len(self._encoder.tokenize([" ".join(words)])[0])


def one_token_words(encoder: PairEncoder) -> list[str]:
    """Words of the vocabulary that are one token at the start of a text and after a blank.

    Raises:
        ConfigError: There are none.
    """
    tokens = sorted(encoder.vocabulary())
    random.Random(_SEED).shuffle(tokens)
    words = list(dict.fromkeys(word for token in tokens if (word := token.strip(_MARKERS)).isalpha()))[:4000]
    lengths = [len(ids) for ids in encoder.tokenize([f"{word} {word}" for word in words])]
    found = [word for word, length in zip(words, lengths, strict=True) if length == 2]
    if not found:
        raise ConfigError("this model's vocabulary has no whole words to make texts of; choose another model")
    return found


def _words_of(data: Path) -> tuple[list[str], list[str]]:
    """Words of the first question and of the passages, in file order."""
    collection = load(data).collection
    words: list[str] = []
    for passage in collection.passages.values():
        words.extend(_words(passage.full_text))
        if len(words) >= _N_WORDS:
            break
    return _words(next(iter(collection.queries.values())).text), words


def _words(text: str) -> list[str]:
    return [word[i : i + _LONGEST_WORD] for word in text.split() for i in range(0, len(word), _LONGEST_WORD)]


def _from(words: Sequence[str], start: int, n_words: int) -> list[str]:
    """So many words from a place on, going on at the beginning after the last."""
    return [words[(start + i) % len(words)] for i in range(n_words)]
