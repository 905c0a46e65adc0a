"""Where a text can be cut, best places first."""

from __future__ import annotations

import re
import unicodedata

from crosstune.language import UNSEGMENTED

_CLOSING = "\"'”’»)\\]」』】》〉）"
_OPENING = "“‘«(\\[「『【《〈（"
_STOPS = ".,:;!?…。，、．：；！？｡ー々ゝゞヽヾ"
# The end of a sentence. A full stop after a single letter ("e. g.", "J. Smith") is none, and before a small letter
# none that counts; Chinese and Japanese put no blank after it.
_SENTENCE = re.compile(rf"(?:(?<!\b[^\W\d_])\.|[!?…؟۔।॥])[.!?…]*[{_CLOSING}]*(?=\s)|[。！？｡][。！？｡…]*[{_CLOSING}]*")
_PARAGRAPH = re.compile(r"(?=\n[^\S\n]*\n)")
_LINE = re.compile(r"(?=\n)")
_BLANK = re.compile(r"(?=\s)")
# Between words, or between any two characters of a script that puts no blanks between words.
_WORD = re.compile(
    rf"(?=\s)|(?<=[{UNSEGMENTED}])(?![{_CLOSING}{_STOPS}])|(?<![{_OPENING}])(?=[{UNSEGMENTED}])(?![{_STOPS}])"
)
_JOINER = "\u200d"
# How much of what a passage can take must be filled before a boundary counts: of two paragraph ends the later one is
# taken, and none at all rather than one that leaves the passage half empty. Blanks come before word ends for the
# scripts without blanks between words, where they mark phrases.
_LEVELS = ((_PARAGRAPH, 0.5), (_SENTENCE, 0.25), (_LINE, 0.5), (_BLANK, 0.5), (_WORD, 0.0))
# Characters that a pattern may look at beyond the place it finds.
_LOOK_AHEAD = 8


def best_cut(text: str, start: int, limit: int) -> int | None:
    """The best place to cut a text that must not go on to its end.

    Args:
        start: Something must stand between here and the cut.
        limit: The last place that will do, inside of the text.

    Returns:
        Where what follows begins, blanks included; None when a single word goes from `start` beyond `limit`.
    """
    for pattern, fill in _LEVELS:
        low = start + max(1, int(fill * (limit - start)))
        found = [cut for cut in _cuts(pattern, text, low, limit + _LOOK_AHEAD) if low <= cut <= limit]
        if found:
            return found[-1]
    return None


def cut_inside_word(text: str, start: int, limit: int) -> int:
    """The last place up to `limit` to cut a word that is too long, at least one character after `start`."""
    cut = max(limit, start + 1)
    while cut > start + 1 and _holds_together(text, cut):
        cut -= 1
    return cut


def first_start(text: str, low: int, end: int) -> int | None:
    """The first place between `low` and `end` where a sentence begins, or else a line or a word; None without one."""
    for patterns in ((_SENTENCE, _PARAGRAPH), (_LINE,), (_WORD,)):
        # A boundary can lie a few blanks before the start it makes.
        found = [
            start
            for pattern in patterns
            for cut in _cuts(pattern, text, max(low - _LOOK_AHEAD, 0), end)
            if low <= (start := skip_blanks(text, cut, end)) < end
        ]
        if found:
            return min(found)
    return None


def skip_blanks(text: str, start: int, end: int) -> int:
    """The first character from `start` on that is no blank; `end` when there is none before it."""
    while start < end and text[start].isspace():
        start += 1
    return start


def _cuts(pattern: re.Pattern[str], text: str, low: int, high: int) -> list[int]:
    cuts = [match.end() for match in pattern.finditer(text, low, min(high, len(text)))]
    if pattern is _SENTENCE:
        return [cut for cut in cuts if not _goes_on(text, cut)]
    return [cut for cut in cuts if not _holds_together(text, cut)] if pattern is _WORD else cuts


def _goes_on(text: str, cut: int) -> bool:
    """Whether a small letter follows, as after an abbreviation."""
    return text[cut : cut + _LOOK_AHEAD].lstrip()[:1].islower()


def _holds_together(text: str, cut: int) -> bool:
    """Whether a cut would part a letter and its mark, or a sequence of emoji."""
    if not 0 < cut < len(text):
        return False
    return text[cut - 1] == _JOINER or text[cut] == _JOINER or unicodedata.category(text[cut])[0] == "M"
