"""Tokenizers to measure by: two whose counts can be worked out by hand, and two real ones."""

import re
from pathlib import Path

import pytest
import tokenizers

from crosstune.documents import FastTokenizer

STARTER = Path(__file__).resolve().parents[2] / "src/crosstune/starter/tokenizer.json"


class ByPattern:
    """One token for each match of a pattern."""

    def __init__(self, pattern):
        self._pattern = re.compile(pattern)

    def offsets(self, text):
        return [match.span() for match in self._pattern.finditer(text)]


class LongerAtTheEnd:
    """Words are tokens, but the last word of a text falls into characters: parts have more tokens than the whole."""

    def offsets(self, text):
        spans = [match.span() for match in re.finditer(r"\S+", text)]
        if not spans:
            return []
        start, end = spans.pop()
        return spans + [(place, place + 1) for place in range(start, end)]


def _byte_pairs():
    """Tokens that are parts of a character, and blanks that belong to the word after them."""
    from tokenizers import models, pre_tokenizers, trainers

    raw = tokenizers.Tokenizer(models.BPE())
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=300, initial_alphabet=alphabet, show_progress=False)
    raw.train_from_iterator(["alpha beta gamma delta"] * 3, trainer)
    return raw


@pytest.fixture(scope="session")
def words():
    """Every word is a token."""
    return ByPattern(r"\S+")


@pytest.fixture(scope="session")
def characters():
    """Every character that is not blank is a token."""
    return ByPattern(r"\S")


@pytest.fixture(scope="session")
def measures(words, characters):
    """name -> tokenizer."""
    return {
        "words": words,
        "characters": characters,
        "longer at the end": LongerAtTheEnd(),
        "wordpiece": FastTokenizer(tokenizers.Tokenizer.from_file(str(STARTER))),
        "byte pairs": FastTokenizer(_byte_pairs()),
    }
