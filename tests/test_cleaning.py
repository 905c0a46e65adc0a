"""One repair at a time: what is repaired, what is named, and above all what is left alone."""

from __future__ import annotations

import pytest

from crosstune.cleaning import clean, has_quoted_tags, is_placeholder


@pytest.mark.parametrize(
    ("found", "cleaned", "repairs"),
    [
        ("plain", "plain", ()),
        ("  outer blanks \r\n", "outer blanks", ()),
        ("no\u00a0break inside", "no break inside", ()),
        ("\u00a0wrapped\u00a0", "wrapped", ("invisible-characters",)),
        ("zero\u200bwidth", "zerowidth", ("invisible-characters",)),
        ("bell\x07", "bell", ("invisible-characters",)),
        ("cafÃ©", "café", ("mis-decoded-text",)),
        ("donâ€™t", "don’t", ("mis-decoded-text",)),
        ("don\x92t", "don’t", ("mis-decoded-text",)),
        ("R&amp;D &#x27;x&#x27; &#8211;", "R&D 'x' –", ("html-entities",)),
        ("<p>One</p><p>Two &lt;b&gt;</p>", "One\n\nTwo <b>", ("html",)),
        ("Press <b>Save</b>.<br/>Done", "Press Save.\nDone", ("html",)),
        ('See <a href="https://x.org">here</a>', "See here", ("html",)),
        ("<p>a</p><script>var x = 1;</script>", "a", ("html",)),
        ("&lt;p&gt;feed&lt;/p&gt;", "feed", ("html-entities", "html")),
    ],
)
def test_repairs(found: str, cleaned: str, repairs: tuple[str, ...]) -> None:
    assert clean(found) == (cleaned, repairs)


@pytest.mark.parametrize(
    "text",
    [
        "wsl --import <Distro> <FileName>",
        "wrap it in <del> ... </del> for that",
        "for (x = 0; x<list.length; x++) { y = '<b>bold</b>'; }",
        "if a < b and c > d",
        "?lang=en&copy=2&region=eu",  # "&copy" without a semicolon is a parameter, not ©
        "AT&T and &unknown;",
        "می\u200cخواهم",  # Persian: the joiner is part of the spelling
        "👩\u200d💻",
        "naïve café – “quoted”",
        "乙肝小三阳应该注意什么？",
    ],
)
def test_left_alone(text: str) -> None:
    assert clean(text) == (text, ())


def test_joiner_at_a_latin_letter_is_noise() -> None:
    assert clean("pass\u200dword") == ("password", ("invisible-characters",))


@pytest.mark.parametrize("text", ["N/A", "n.a.", "-", "—", "TBD", "see above", "...", "???", "NaN", "To do"])
def test_placeholders(text: str) -> None:
    assert is_placeholder(text)


@pytest.mark.parametrize("text", ["No", "42", "None of them", "x", "✅", "否", "See above the door"])
def test_short_answers_are_no_placeholders(text: str) -> None:
    assert not is_placeholder(text)


def test_quoted_tags_are_seen() -> None:
    assert has_quoted_tags("wrap it in <del> ... </del>")
    assert not has_quoted_tags("wsl --import <Distro>")
