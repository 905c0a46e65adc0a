"""Words, character pairs and both in one text; stems and stop words by language."""

import re

import pytest

from crosstune.language import language_of
from crosstune.lexical import tokens
from crosstune.lexical.tokens import Tokenizer


def terms(code, text):
    return Tokenizer(language_of(code))(text)


def test_english_words_are_stemmed_and_stop_words_dropped():
    assert terms("en", "How do I reset my Passwords?") == ["reset", "password"]


def test_contractions_leave_no_fragments():
    assert terms("en", "I can't, don’t, wouldn't pay") == ["pay"]


def test_width_and_case_do_not_count():
    assert terms("en", "ＡＺＵＲＥ Azure") == ["azur", "azur"]


@pytest.mark.parametrize(
    ("code", "text", "expected"),
    [
        ("de", "die Rechnungen", ["rechnung"]),
        ("fr", "l’utilisateur", ["utilis"]),
        ("es", "las facturas", ["factur"]),
        ("hi", "पासवर्ड", ["पासवर्ड"]),  # vowel signs are marks: the word must not fall apart
        ("vi", "mật khẩu", ["mật", "khẩu"]),  # no stemmer for Vietnamese
        ("und", "alpha beta", ["alpha", "beta"]),
    ],
)
def test_other_languages(code, text, expected):
    assert terms(code, text) == expected


def test_numbers_stay_even_where_the_stop_list_has_them():
    assert terms("ko", "요금제 2") == ["요금제", "2"]  # stopwordsiso lists the digit 2 for Korean


def test_scripts_without_blanks_become_pairs():
    assert terms("zh", "磁盘创建") == ["磁盘", "盘创", "创建"]
    assert terms("zh", "盘") == ["盘"]
    assert terms("th", "รหัส") == ["รห", "หั", "ัส"]
    assert terms("ja", "磁盤パス") == ["磁盤", "盤パ", "パス"]


def test_mixed_text_keeps_latin_words_whole():
    assert terms("zh", "Azure磁盘, VM2创建") == ["azure", "磁盘", "vm2", "创建"]
    # The rule goes by script, not by the detected language.
    assert terms("en", "disks 磁盘创") == ["disk", "磁盘", "盘创"]


def test_chinese_stop_words_of_two_characters_are_dropped():
    assert terms("zh", "如何") == []


def test_stop_words_can_be_kept():
    keep = Tokenizer(language_of("en"), drop_stop_words=False)
    assert keep("What is it?") == ["what", "is", "it"]
    assert terms("en", "What is it?") == []


@pytest.mark.parametrize("text", ["", "  ", "?!", "…"])
def test_nothing_to_count(text):
    assert terms("en", text) == []


def test_the_fast_way_for_latin_text_finds_the_same_words(monkeypatch):
    texts = [text for i in range(0x3000) for text in (chr(i), f"a{chr(i)}b", f"{chr(i)}1 _{chr(i)}")]
    fast = [list(tokens._pieces(text)) for text in texts]
    n_fast = sum(not tokens._NOT_LATIN.search(text) for text in texts)
    assert 3 * 0x300 < n_fast < len(texts)
    monkeypatch.setattr(tokens, "_NOT_LATIN", re.compile(""))  # finds something in every text
    assert [list(tokens._pieces(text)) for text in texts] == fast
