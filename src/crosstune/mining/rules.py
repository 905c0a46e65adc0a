"""What must never be a negative, and why."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Mapping, Set
from enum import Enum
from itertools import chain

from crosstune.errors import ConfigError
from crosstune.text import normalized
from crosstune.types import Collection as Data


class Reason(str, Enum):
    """Why a candidate was left out. The first that holds, in this order, is counted."""

    OWN_ANSWER = "own answer"
    OTHER_POSITIVE = "other positive of the question"
    EQUAL_TEXT = "text equal to a positive"
    NEAR_DUPLICATE = "near-duplicate of a positive"
    PROTECTED = "answer of a dev or test question"
    TOO_SIMILAR = "nearly as similar as the positive"


class ExclusionRules:
    """Decides by identity and text; similarity is decided elsewhere, because it needs a model.

    Args:
        data: Passages and judgments.
        protected_passage_ids: Answers of dev and test questions. They stay in the corpus, but as a negative
            they would teach the model to reject what the test asks for; so would a copy, so passages of equal
            text and near-duplicates are protected with them.
        near_duplicates: passage_id -> ids of its near-duplicates; one direction is enough.

    Raises:
        ConfigError: A protected passage is not in the data.
    """

    def __init__(
        self,
        data: Data,
        protected_passage_ids: Set[str],
        near_duplicates: Mapping[str, frozenset[str]],
    ) -> None:
        unknown = sorted(protected_passage_ids - data.passages.keys())
        if unknown:
            raise ConfigError(
                f"{len(unknown)} protected passages are not in the collection, the first is {unknown[0]!r}; "
                "mine on the collection that was split"
            )
        self._data = data
        self._keys = {passage_id: normalized(p.full_text) for passage_id, p in data.passages.items()}
        self._near = _both_ways(near_duplicates)
        texts = {self._keys[passage_id] for passage_id in protected_passage_ids}
        copies = {passage_id for passage_id, key in self._keys.items() if key in texts}
        self._protected = protected_passage_ids | copies | self._near_to(protected_passage_ids)

    def reason_for(self, query_id: str, positive_id: str) -> Callable[[str], Reason | None]:
        """A function passage_id -> why it cannot be a negative of this query, None when it can."""
        positives = self._data.relevant(query_id)
        texts = {self._keys[passage_id] for passage_id in positives}
        near = self._near_to(positives)

        def reason(passage_id: str) -> Reason | None:
            if passage_id == positive_id:
                return Reason.OWN_ANSWER
            if passage_id in positives:
                return Reason.OTHER_POSITIVE
            if self._keys[passage_id] in texts:
                return Reason.EQUAL_TEXT
            if passage_id in near:
                return Reason.NEAR_DUPLICATE
            return Reason.PROTECTED if passage_id in self._protected else None

        return reason

    def _near_to(self, passage_ids: Collection[str]) -> frozenset[str]:
        return frozenset(chain.from_iterable(self._near.get(passage_id, ()) for passage_id in passage_ids))


def _both_ways(near_duplicates: Mapping[str, frozenset[str]]) -> Mapping[str, set[str]]:
    near: defaultdict[str, set[str]] = defaultdict(set)
    for passage_id, others in near_duplicates.items():
        for other in others - {passage_id}:
            near[passage_id].add(other)
            near[other].add(passage_id)
    return dict(near)


def too_similar_from(positive: float, margin: float) -> float:
    """The similarity from which a candidate may be an unlabelled answer.

    `margin` times the positive's similarity where that is above 0. Below 0 that product would lie *above*
    the positive and let more similar passages through (sentence-transformers issue 3819), so the distance
    is taken from the size of the similarity and always lies below the positive.

    >>> too_similar_from(0.8, 0.95), too_similar_from(-0.5, 0.95)
    (0.76, -0.525)
    """
    # Rounded beyond the precision of a cosine, so that a candidate exactly at the limit counts as at it.
    return round(positive - abs(positive) * (1 - margin), 9)
