"""Unknown tokens under the kinds of vocabulary there are."""

from __future__ import annotations

import pytest
from tokenizers import Tokenizer, models, pre_tokenizers

from crosstune.data import unknown_token_share


def word_piece() -> Tokenizer:
    tokenizer = Tokenizer(models.WordPiece({"[UNK]": 0, "how": 1, "pay": 2, "##ing": 3}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    return tokenizer


def test_word_piece() -> None:
    # how | pay ##ing | [UNK], how: one unknown of five tokens.
    assert unknown_token_share(["how paying 付款", "how"], word_piece()) == pytest.approx(1 / 5)
    assert unknown_token_share([], word_piece()) == 0.0


def test_the_tokenizer_is_left_as_it_was() -> None:
    tokenizer = word_piece()
    tokenizer.enable_truncation(2)
    assert unknown_token_share(["how pay how 付"], tokenizer) == pytest.approx(1 / 4)
    assert tokenizer.truncation["max_length"] == 2


def test_unigram() -> None:
    tokenizer = Tokenizer(models.Unigram([("<unk>", 0.0), ("a", -1.0), ("b", -1.0)], unk_id=0))
    assert unknown_token_share(["abz"], tokenizer) == pytest.approx(1 / 3)


def test_bytes_have_no_unknown() -> None:
    tokenizer = Tokenizer(models.BPE({"a": 0}, []))
    assert unknown_token_share(["a"], tokenizer) == 0.0
