"""What passes and what is left out of the candidates of one group."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from crosstune.mining.account import GroupAccount
from crosstune.mining.rules import Reason, too_similar_from
from crosstune.mining.settings import Band

Similarity: TypeAlias = Callable[[str, Sequence[str]], NDArray[np.float64]]
"""(query_id, passage_ids) -> cosines."""


class Sieve:
    """Lets candidates of one (query, positive) pass, or notes why not.

    Args:
        query_id, positive_id: The group.
        reason: passage_id -> the rule that forbids it, None when none does.
        similarity: For the margin rule; None leaves the rule out.
        margin: Of the margin rule.
    """

    def __init__(
        self,
        query_id: str,
        positive_id: str,
        reason: Callable[[str], Reason | None],
        similarity: Similarity | None,
        margin: float,
    ) -> None:
        self._query_id = query_id
        self._positive_id = positive_id
        self._reason = reason
        self._similarity = similarity
        self._positive = None if similarity is None else float(similarity(query_id, [positive_id])[0])
        self._limit = None if self._positive is None else too_similar_from(self._positive, margin)
        self._n_seen = 0
        self._removed: dict[Reason, list[str]] = {}
        self._too_similar: dict[str, float] = {}

    def passed_by_identity(self, passage_ids: Sequence[str]) -> list[str]:
        """Those that no rule but the margin rule forbids."""
        passed = []
        for passage_id in passage_ids:
            self._n_seen += 1
            reason = self._reason(passage_id)
            if reason is None:
                passed.append(passage_id)
            else:
                self._removed.setdefault(reason, []).append(passage_id)
        return passed

    def passed(self, passage_ids: Sequence[str]) -> list[str]:
        """Those that no rule forbids."""
        allowed = self.passed_by_identity(passage_ids)
        if self._similarity is None or self._limit is None or not allowed:
            return allowed
        passed = []
        cosines = self._similarity(self._query_id, allowed).tolist()
        for passage_id, cosine in zip(allowed, cosines, strict=True):
            if cosine >= self._limit:
                self._removed.setdefault(Reason.TOO_SIMILAR, []).append(passage_id)
                self._too_similar[passage_id] = cosine
            else:
                passed.append(passage_id)
        return passed

    def account(self, taken: Mapping[Band, Sequence[str]]) -> GroupAccount:
        """All that was noted, with what was taken in the end."""
        return GroupAccount(
            query_id=self._query_id,
            positive_id=self._positive_id,
            positive_similarity=self._positive,
            n_seen=self._n_seen,
            taken={band: tuple(ids) for band, ids in taken.items()},
            removed={reason: tuple(self._removed[reason]) for reason in Reason if reason in self._removed},
            too_similar=self._too_similar,
        )
