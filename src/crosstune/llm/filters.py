"""Which written questions are worth keeping."""

from __future__ import annotations

import math
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from crosstune.errors import ConfigError
from crosstune.language import UNSEGMENTED
from crosstune.llm.synthesis import SyntheticPair
from crosstune.text import normalized

THRESHOLD = 0.85

_WORD = re.compile(rf"[{UNSEGMENTED}]|[^\s{UNSEGMENTED}]+")
_DIGIT = re.compile(r"\d")

Words = frozenset[str]


@dataclass(frozen=True, slots=True)
class Dropped:
    """A pair that is not kept, and why, in words."""

    pair: SyntheticPair
    reason: str


@dataclass(frozen=True, slots=True)
class Filtered:
    """The outcome of a filter; both parts in the order of the input."""

    kept: tuple[SyntheticPair, ...]
    dropped: tuple[Dropped, ...]


def near_duplicate_questions(pairs: Sequence[SyntheticPair]) -> Filtered:
    """Drop questions that say the same as an earlier one, whichever passages they were written for.

    Two questions say the same when the Jaccard similarity of their sets of words is at least 0.85 and their words
    with digits are the same. In scripts without blanks every character is a word.
    """
    words = [frozenset(_WORD.findall(normalized(pair.question))) for pair in pairs]
    counts = Counter(word for of_one in words for word in of_one)
    kept: list[int] = []
    dropped: list[Dropped] = []
    holding: defaultdict[str, list[int]] = defaultdict(list)
    for place, pair in enumerate(pairs):
        rare = _rarest(words[place], counts)
        earlier = {other for word in rare for other in holding[word]}
        if any(_alike(words[place], words[other]) for other in earlier):
            dropped.append(Dropped(pair, "says the same as an earlier question"))
            continue
        kept.append(place)
        for word in rare:
            holding[word].append(place)
    return Filtered(tuple(pairs[place] for place in kept), tuple(dropped))


def round_trip(
    pairs: Sequence[SyntheticPair],
    retrieve: Callable[[Sequence[str], int], Sequence[Sequence[str]]],
    depth: int = 10,
) -> Filtered:
    """Drop questions that do not find the passage they were written for: vague, or about something else.

    Args:
        pairs: Any.
        retrieve: (questions, depth) -> for each question the ids of up to depth passages, best first.
        depth: Most passages looked at, at least 1.

    Raises:
        ConfigError: `depth` is below 1.
    """
    if depth < 1:
        raise ConfigError(f"depth must be at least 1, found {depth}")
    found = retrieve([pair.question for pair in pairs], depth)
    reason = f"does not find its passage among the first {depth}"
    kept: list[SyntheticPair] = []
    dropped: list[Dropped] = []
    for pair, passage_ids in zip(pairs, found, strict=True):
        if pair.passage_id in passage_ids[:depth]:
            kept.append(pair)
        else:
            dropped.append(Dropped(pair, reason))
    return Filtered(tuple(kept), tuple(dropped))


def _rarest(words: Words, counts: Mapping[str, int]) -> list[str]:
    """So many of the rarest words that two similar sets share one of theirs.

    Similar sets share at least 0.85 of the words of each, so at most the other 0.15 can come before the first
    shared one in any fixed order (prefix filtering, Chaudhuri et al., ICDE 2006). Rare first keeps the lists short.
    """
    n_shared = math.ceil(THRESHOLD * len(words))
    return sorted(words, key=lambda word: (counts[word], word))[: len(words) - n_shared + 1]


def _alike(a: Words, b: Words) -> bool:
    return len(a & b) >= THRESHOLD * len(a | b) and _with_digits(a) == _with_digits(b)


def _with_digits(words: Iterable[str]) -> set[str]:
    return {word for word in words if _DIGIT.search(word)}
