"""Identity of texts: when two texts count as the same, and a stable name for a text."""

from __future__ import annotations

import hashlib
import re
import unicodedata
from functools import cache

# Zero-width and directional marks that editors and web pages leave in text: they change no meaning.
INVISIBLE = re.compile("[\u00ad\u200b-\u200f\u202a-\u202e\u2060-\u2064\u2066-\u2069\ufeff]")
# Signs that change what is said: prices, C++ and C#, 5 % and 5, < and >.
_SIGNS = "$¢-¥\u20a0-\u20cf+#%<>="
_NOT_WORD = re.compile(rf"(?:[^\w{_SIGNS}]|_)+")
# Where combining marks can stand. Only texts with such a character pay for the exact and slower pattern.
_MAY_HAVE_MARKS = re.compile("[\u0300-\u036f\u0483-\u0489\u0591-\u1dff\u3099\u309a\ua66f-\uabff\U00010000-\U0001efff]")


def content_hash(text: str) -> str:
    """SHA-256 of the text, as 64 hexadecimal digits: the key of caches and fingerprints."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def normalized(text: str) -> str:
    """Key under which two texts count as equal.

    Case, blanks, punctuation, quote style, Unicode composition and invisible characters do not count; letters
    with their marks, digits, currencies and a few signs (`+ # % < > =`) do. A text of punctuation only keeps
    its punctuation, so that it does not equal the empty text.

    >>> normalized("  “Refunds” take\\u00a030 days ")
    'refunds take 30 days'
    """
    plain = INVISIBLE.sub("", unicodedata.normalize("NFKC", text)).casefold()
    plain = unicodedata.normalize("NFKC", plain)  # casefold can take characters apart
    pattern = _not_word_with_marks() if _MAY_HAVE_MARKS.search(plain) else _NOT_WORD
    words = pattern.sub(" ", plain).strip()
    return words or " ".join(plain.split())


@cache
def _not_word_with_marks() -> re.Pattern[str]:
    r"""`_NOT_WORD` less the combining marks: `\w` lacks the vowel signs of Hindi or Thai, which make words differ."""
    marks = "".join(chr(c) for c in range(0x300, 0x1F000) if unicodedata.category(chr(c)) in ("Mn", "Mc"))
    marks = re.sub("[\ufe00-\ufe0f]", "", marks)  # variation selectors only choose a glyph
    return re.compile(rf"(?:[^\w{_SIGNS}{marks}]|_)+")
