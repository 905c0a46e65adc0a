import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crosstune.text import INVISIBLE, content_hash, normalized


def test_content_hash_is_sha256_of_utf8():
    # The published SHA-256 of the empty message, and Python's own for a text with two-byte characters.
    assert content_hash("") == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    assert content_hash("é") == hashlib.sha256(b"\xc3\xa9").hexdigest()
    assert content_hash("a") != content_hash("a ")


def test_content_hash_takes_a_lone_surrogate():
    assert content_hash("\ud800") != content_hash("\ud801")


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("  “Refunds” take\u00a030 days ", "refunds take 30 days"),
        ("Caf\u00e9", "cafe\u0301".replace("e\u0301", "\u00e9")),
        ("cafe\u0301", "caf\u00e9"),
        ("STRASSE", "strasse"),
        ("Straße", "strasse"),
        ("pass\u200bword\ufeff", "password"),
        ("snake_case-word", "snake case word"),
        ("ﬁle", "file"),
        ("", ""),
        ("   ", ""),
        ("?!", "?!"),
        (" ? ! ", "? !"),
        ("❤\ufe0f thanks", "thanks"),
    ],
)
def test_what_does_not_count(text, key):
    assert normalized(text) == key


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("plan 10", "plan 100"),
        ("it costs $10", "it costs €10"),
        ("What is C++?", "What is C#?"),
        ("a fee of 5%", "a fee of 5"),
        ("दिन", "दान"),  # day, donation: they differ in a vowel sign only
        ("ที่", "ทุ"),  # Thai vowel signs above and below
        ("?", ""),
        ("?", "!"),
    ],
)
def test_what_counts(one, other):
    assert normalized(one) != normalized(other)


@given(st.text())
def test_a_key_is_its_own_key_and_has_nothing_invisible(text):
    key = normalized(text)
    assert normalized(key) == key
    assert not INVISIBLE.search(key)


@given(st.text(alphabet="abc ÉßΐΣς", min_size=1))
def test_case_does_not_count(text):
    assert normalized(text.upper()) == normalized(text) == normalized(text.lower())
