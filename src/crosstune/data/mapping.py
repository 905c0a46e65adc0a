"""Which passages of an index hold the answers of a question/answer file.

An index cuts documents its own way, so an answer can be one passage, a part of one, or spread over several. It is
looked for word by word; what is not there is said and never guessed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum

import numpy as np

from crosstune.data.near import NUMBER, THRESHOLD, grams
from crosstune.language import Language
from crosstune.lexical import LexicalIndex
from crosstune.progress import Progress, silent
from crosstune.text import normalized
from crosstune.types import Passage

# Least of an answer in each of the passages that it is spread over: an overlap of chunks alone is no answer.
_LEAST_PART = 0.3
# Shorter texts ("Yes, you can.") stand in many passages by chance.
_LEAST_CHARACTERS = 40
# Passages that share most words with an answer are compared with it, and all those of the first few documents.
_MOST_COMPARED, _MOST_DOCUMENTS = 20, 5


class Match(str, Enum):
    """How an answer was found: as a passage, word for word inside one, nearly so, or cut into several."""

    EXACT = "exact"
    CONTAINED = "contained"
    SIMILAR = "similar"
    SPREAD = "spread"


@dataclass(frozen=True, slots=True)
class MappedAnswers:
    """Where answers are in an index.

    Attributes:
        passage_ids: Answer id -> passages of the index that hold it; only answers that were found.
        matches: Answer id -> how.
        unmapped: Ids of the answers that are not in the index, in file order.
    """

    passage_ids: Mapping[str, tuple[str, ...]]
    matches: Mapping[str, Match]
    unmapped: tuple[str, ...]

    def counts(self) -> dict[str, int]:
        """Match -> number of answers, with "unmapped"."""
        found = Counter(match.value for match in self.matches.values())
        return {**{match.value: found[match.value] for match in Match}, "unmapped": len(self.unmapped)}


def map_answers(
    answers: Mapping[str, Passage], passages: Mapping[str, Passage], language: Language, progress: Progress = silent
) -> MappedAnswers:
    """Find the passages of an index that hold each answer.

    All passages of the best kind of match are taken: equal texts; else passages that contain the answer (at least 40
    characters); else passages that have four fifths of the answer's character 4-grams and all of its numbers; else
    passages of one document that together have as much of it, each a piece of it or with three tenths of it.

    Args:
        answers: Answer id -> answer.
        passages: passage_id -> passage of the index.
        language: Of the passages, for finding those to compare.
        progress: Told of the work.
    """
    finder = _Finder(passages, language)
    found: dict[str, tuple[str, ...]] = {}
    matches: dict[str, Match] = {}
    with progress("Looking for the answers in the index", len(answers)) as advance:
        for answer_id, answer in answers.items():
            match, passage_ids = finder.find(answer.text)
            if match is not None:
                found[answer_id], matches[answer_id] = passage_ids, match
            advance(1)
    return MappedAnswers(found, matches, tuple(answer_id for answer_id in answers if answer_id not in found))


class _Finder:
    """Passages by their text."""

    def __init__(self, passages: Mapping[str, Passage], language: Language) -> None:
        self._ids = list(passages)
        self._documents = [None if p.origin is None else p.origin.document_id for p in passages.values()]
        self._of_document: dict[str, list[int]] = {}
        for place, document in enumerate(self._documents):
            if document is not None:
                self._of_document.setdefault(document, []).append(place)
        self._texts = [normalized(passage.text) for passage in passages.values()]
        self._index = LexicalIndex([passage.text for passage in passages.values()], language)
        self._equal: dict[str, list[str]] = {}
        for passage_id, text, passage in zip(self._ids, self._texts, passages.values(), strict=True):
            for key in {text, normalized(passage.full_text)}:
                self._equal.setdefault(key, []).append(passage_id)

    def find(self, text: str) -> tuple[Match | None, tuple[str, ...]]:
        """The best kind of match, None without any, and the passages that match so."""
        answer = normalized(text)
        if answer in self._equal:
            return Match.EXACT, tuple(self._equal[answer])
        places = self._alike(text)
        for match, holds in ((Match.CONTAINED, _contains), (Match.SIMILAR, _holds)):
            found = [self._ids[place] for place in sorted(places) if holds(answer, self._texts[place])]
            if found:
                return match, tuple(found)
        spread = self._spread(answer, places)
        return (Match.SPREAD, spread) if spread else (None, ())

    def _spread(self, answer: str, places: Sequence[int]) -> tuple[str, ...]:
        """The passages of the one document that together hold the answer."""
        wanted = grams(answer)
        near = [document for place in places if (document := self._documents[place]) is not None]
        for document in list(dict.fromkeys(near))[:_MOST_DOCUMENTS]:
            parts = [place for place in self._of_document[document] if _is_part(self._texts[place], answer, wanted)]
            if len(parts) > 1 and _holds(answer, " ".join(self._texts[place] for place in parts)):
                return tuple(self._ids[place] for place in parts)
        return ()

    def _alike(self, text: str) -> Sequence[int]:
        """Places of the passages that share most words, those that share most first."""
        if not self._ids:
            return []
        scores = self._index.scores(text)
        n = min(_MOST_COMPARED, int((scores > 0).sum()))
        places: list[int] = np.argsort(-scores, kind="stable")[:n].tolist()
        return places


def _contains(answer: str, passage: str) -> bool:
    return len(answer) >= _LEAST_CHARACTERS and answer in passage


def _is_part(passage: str, answer: str, wanted: set[str]) -> bool:
    """Whether a passage is a piece of the answer, or has a good part of it."""
    return _contains(passage, answer) or len(wanted & grams(passage)) >= _LEAST_PART * len(wanted)


def _holds(answer: str, passage: str) -> bool:
    """Whether a passage has most of the answer's 4-grams, and all of its numbers."""
    if len(answer) < _LEAST_CHARACTERS:
        return False
    if Counter(NUMBER.findall(answer)) - Counter(NUMBER.findall(passage)):
        return False
    wanted = grams(answer)
    return len(wanted & grams(passage)) >= THRESHOLD * len(wanted)
