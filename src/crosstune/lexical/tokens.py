"""Words for BM25: what a text is cut into, in any script."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterator
from functools import cache

from crosstune.language import UNSEGMENTED, Language
from crosstune.text import INVISIBLE

_STEMMERS = {
    "ar": "arabic", "ca": "catalan", "cs": "czech", "da": "danish", "de": "german", "el": "greek",
    "en": "english", "eo": "esperanto", "es": "spanish", "et": "estonian", "eu": "basque",
    "fa": "persian", "fi": "finnish", "fr": "french", "ga": "irish", "hi": "hindi", "hu": "hungarian",
    "hy": "armenian", "id": "indonesian", "it": "italian", "lt": "lithuanian", "ne": "nepali",
    "nl": "dutch", "no": "norwegian", "pl": "polish", "pt": "portuguese", "ro": "romanian",
    "ru": "russian", "sr": "serbian", "st": "sesotho", "sv": "swedish", "ta": "tamil", "tr": "turkish",
    "yi": "yiddish",
}  # fmt: skip


# Letters without marks of their own, and typographic punctuation: with these alone a word is what Python thinks it is,
# which is found six times as fast.
_NOT_LATIN = re.compile("[^\x00-\u02ff\u2010-\u2027\u2030-\u205e]")
_WORD = re.compile(r"[^\W_]+")


class Tokenizer:
    """Cuts text into the terms that BM25 counts.

    Words are runs of letters, vowel signs and digits, in lower case and compatibility form, without the stop
    words of the language and reduced to their stem where Snowball has a stemmer for it. Runs of a script
    without blanks become overlapping pairs of characters, a character on its own stays single. Both rules
    hold inside one text, so that Latin words in a Chinese sentence stay words.

    Args:
        language: Picks stemmer and stop words. A language that has none of them is cut all the same.
        drop_stop_words: False keeps stop words.
    """

    def __init__(self, language: Language, *, drop_stop_words: bool = True) -> None:
        self._stop_words = _stop_words(language.code) if drop_stop_words else frozenset()
        self._stem = _stemmer(language.code)

    def __call__(self, text: str) -> list[str]:
        """Terms of the text in reading order, repeats included."""
        return [
            self._stem(word) if is_word else word for word, is_word in _pieces(text) if word not in self._stop_words
        ]


def _pieces(text: str) -> Iterator[tuple[str, bool]]:
    """(piece, True) for words, (piece, False) for characters of a script without blanks."""
    plain = _plain(text)
    if not _NOT_LATIN.search(plain):
        yield from ((word, True) for word in _WORD.findall(plain))
        return
    for match in _pattern().finditer(plain):
        run = match["run"]
        if run is None:
            yield match[0], True
        elif len(run) == 1:
            yield run, False
        else:
            yield from ((run[i : i + 2], False) for i in range(len(run) - 1))


def _plain(text: str) -> str:
    return INVISIBLE.sub("", unicodedata.normalize("NFKC", text)).casefold()


def _is_run(word: str) -> bool:
    match = _pattern().fullmatch(_plain(word))
    return match is not None and match["run"] is not None


@cache
def _pattern() -> re.Pattern[str]:
    # Vowel signs (Hindi, Tamil, Arabic ...) are combining marks, which Python's \w leaves out: without them a
    # word would fall apart at every sign.
    marks = "".join(chr(i) for i in range(0x300, 0x20000) if unicodedata.category(chr(i)).startswith("M"))
    marks = re.sub(f"[{UNSEGMENTED}]", "", marks)
    return re.compile(rf"(?P<run>[{UNSEGMENTED}]+)|(?:[^\W_{UNSEGMENTED}]|[{marks}])+")


@cache
def _stop_words(code: str) -> frozenset[str]:
    import stopwordsiso

    if not stopwordsiso.has_lang(code):
        return frozenset()
    words = stopwordsiso.stopwords(code)
    # "don't" is two words to the pattern, so its pieces are what must be stopped. A number carries meaning in
    # an FAQ ("plan 2"), whatever the list of the language says.
    pieces = {piece for word in words for piece, is_word in _pieces(word) if is_word and not piece.isdigit()}
    return frozenset(pieces | {_plain(word) for word in words if _is_run(word)})


def _stemmer(code: str) -> Callable[[str], str]:
    import Stemmer

    name = _STEMMERS.get(code)
    # PyStemmer has gained languages over time; an older one stems fewer of them.
    if name is None or name not in Stemmer.algorithms():
        return str
    stem: Callable[[str], str] = Stemmer.Stemmer(name).stemWord
    return stem
