"""When a passage says what another one has said already."""

from __future__ import annotations

import re
from dataclasses import dataclass

from crosstune.language import UNSEGMENTED
from crosstune.text import normalized

THRESHOLD = 0.8

_N_WORDS = 5
_WORD = re.compile(rf"[{UNSEGMENTED}]|[^\s{UNSEGMENTED}]+")
_NUMBER = re.compile(r"\d+")


@dataclass(frozen=True, slots=True)
class Wording:
    """What two passages are compared by, title included: "Yes." under two questions is two answers.

    Attributes:
        key: The normalised text.
        shingles: Runs of five words; of scripts without blanks every character is a word. A shorter text is one run.
        numbers: In reading order.
    """

    key: str
    shingles: frozenset[tuple[str, ...]]
    numbers: tuple[str, ...]

    def repeats(self, other: Wording) -> bool:
        """Whether it adds next to nothing to the other passage.

        The texts are equal, or at least 80% of its runs of five words stand in the other one and so do its
        numbers, in their order: "within 30 days" does not repeat "within 60 days". A longer passage that holds
        the other one whole is no repeat: the rest of it is new.
        """
        if self.key == other.key:
            return True
        if len(self.shingles & other.shingles) < THRESHOLD * len(self.shingles):
            return False
        numbers = iter(other.numbers)
        return all(number in numbers for number in self.numbers)


def wording_of(title: str, text: str) -> Wording:
    """The wording of a passage."""
    key = normalized(f"{title} {text}")
    words = _WORD.findall(key)
    n_runs = max(1, len(words) - _N_WORDS + 1)
    shingles = frozenset(tuple(words[i : i + _N_WORDS]) for i in range(n_runs))
    return Wording(key, shingles, tuple(_NUMBER.findall(key)))
