"""Which language a set of texts is written in, and whether that script puts blanks between words."""

from __future__ import annotations

import random
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

# Letters and vowel signs of the scripts that are written without blanks between words, as regular expression
# ranges. Their digits are left out: numbers in these scripts are set apart like numbers everywhere.
_HAN = "\u2e80-\u2fdf\u3005-\u3007\u3105-\u312f\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
_KANA = "\u3041-\u309f\u30a1-\u30fa\u30fc-\u30ff\u31f0-\u31ff\uff66-\uff9f"
_THAI = "\u0e01-\u0e3a\u0e40-\u0e4e"
_LAO = "\u0e81-\u0ece\u0edc-\u0edf"
_KHMER = "\u1780-\u17d3"
_MYANMAR = "\u1000-\u103f\u1050-\u108f\u109a-\u109f\ua9e0-\ua9ef\uaa60-\uaa7f"
UNSEGMENTED = _HAN + _KANA + _THAI + _LAO + _KHMER + _MYANMAR
"""Inside of a regular expression class that matches one character of a script written without blanks."""

_SCRIPTS = tuple(
    (code, re.compile(f"[{ranges}]"))
    for code, ranges in (
        ("zh", _HAN),
        ("ja", _KANA),
        ("th", _THAI),
        ("lo", _LAO),
        ("km", _KHMER),
        ("my", _MYANMAR),
    )
)
_OTHER_WORD = re.compile(rf"[^\W\d_{UNSEGMENTED}]+")

# Japanese mixes Han characters with kana; Chinese borrows the odd kana (a の in a shop's name).
_KANA_SHARE = 0.1
# A Chinese word is about two characters long: this is how characters are weighed against words.
_CHARACTERS_PER_WORD = 2

_SAMPLE_TEXTS = 500
_SAMPLE_CHARACTERS = 400
# py3langid guesses on a text of one word ("hello" is Breton to it), so short texts are judged together.
_CHUNK_CHARACTERS = 200

UNDETERMINED = "und"
_NAMES = dict(
    re.findall(
        r"(\w+):(\w+)",
        "af:Afrikaans ar:Arabic az:Azerbaijani be:Belarusian bg:Bulgarian bn:Bengali bs:Bosnian ca:Catalan "
        "cs:Czech cy:Welsh da:Danish de:German el:Greek en:English eo:Esperanto es:Spanish et:Estonian "
        "eu:Basque fa:Persian fi:Finnish fr:French ga:Irish gl:Galician gu:Gujarati he:Hebrew hi:Hindi "
        "hr:Croatian hu:Hungarian hy:Armenian id:Indonesian is:Icelandic it:Italian ja:Japanese ka:Georgian "
        "kk:Kazakh km:Khmer kn:Kannada ko:Korean lo:Lao lt:Lithuanian lv:Latvian mk:Macedonian ml:Malayalam "
        "mr:Marathi ms:Malay my:Burmese ne:Nepali nl:Dutch no:Norwegian pa:Punjabi pl:Polish pt:Portuguese "
        "ro:Romanian ru:Russian sk:Slovak sl:Slovenian so:Somali sq:Albanian sr:Serbian sv:Swedish "
        "sw:Swahili ta:Tamil te:Telugu th:Thai tl:Tagalog tr:Turkish uk:Ukrainian und:undetermined "
        "ur:Urdu uz:Uzbek vi:Vietnamese zh:Chinese",
    )
)
# Codes that py3langid tells apart and that share stemmer and stop words with their larger sibling.
_SIBLINGS = {"nb": "no", "nn": "no", "yue": "zh", "wuu": "zh", "arz": "ar", "ary": "ar", "zxx": UNDETERMINED}


@dataclass(frozen=True, slots=True)
class Language:
    """A written language.

    Attributes:
        code: ISO 639 code, for example "en"; "und" when the texts hold no letters.
        name: English name, or the code where we know no name.
        segmented: True when blanks stand between words.
    """

    code: str
    name: str
    segmented: bool


def language_of(code: str) -> Language:
    """The language of an ISO 639 code."""
    code = _SIBLINGS.get(code, code)
    return Language(code, _NAMES.get(code, code), segmented=all(code != script for script, _ in _SCRIPTS))


def detect_language(texts: Sequence[str]) -> Language:
    """The language that most of the text is written in.

    The script decides where words are not set apart by blanks; elsewhere py3langid votes on pieces of the
    text, each vote weighing as much as the piece is long. At most 500 texts are looked at, 400 characters of
    each, picked by a fixed seed, so that the answer for the same texts is always the same.
    """
    sample = _sample(texts)
    return language_of(_code_by_script(sample) or _code_by_vote(sample))


def _sample(texts: Sequence[str]) -> list[str]:
    places: Sequence[int] = range(len(texts))
    if len(texts) > _SAMPLE_TEXTS:
        places = sorted(random.Random(0).sample(places, _SAMPLE_TEXTS))
    return [texts[place][:_SAMPLE_CHARACTERS] for place in places]


def _code_by_script(sample: Sequence[str]) -> str | None:
    """Code of the script without blanks that the sample is mostly written in; None for any other script."""
    counts = {code: sum(len(script.findall(text)) for text in sample) for code, script in _SCRIPTS}
    words = sum(len(_OTHER_WORD.findall(text)) for text in sample)
    characters = sum(counts.values())
    if characters == 0 or characters < words * _CHARACTERS_PER_WORD:
        return None
    east_asian = counts["zh"] + counts["ja"]
    if 2 * east_asian >= characters:
        return "ja" if counts["ja"] > _KANA_SHARE * east_asian else "zh"
    return max(counts, key=lambda code: counts[code])


def _code_by_vote(sample: Sequence[str]) -> str:
    import py3langid  # loads a model of its own, half a second: only when a vote is needed

    votes: Counter[str] = Counter()
    for chunk in _chunks(sample):
        if _OTHER_WORD.search(chunk):  # without letters py3langid names the first language of its list
            votes[py3langid.classify(chunk)[0]] += len(chunk)
    # Most weight first; equal weights by code, so that the first one counted does not win.
    return min(votes, key=lambda code: (-votes[code], code)) if votes else UNDETERMINED


def _chunks(sample: Sequence[str]) -> Iterator[str]:
    """Join neighbouring short texts into pieces long enough to be recognised."""
    waiting: list[str] = []
    for text in sample:
        waiting.append(text)
        if sum(map(len, waiting)) >= _CHUNK_CHARACTERS:
            yield " ".join(waiting)
            waiting = []
    if waiting:
        yield " ".join(waiting)
