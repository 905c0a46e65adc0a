"""The contract of a reranker loss."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from torch import Tensor


class Loss(Protocol):
    """Logits of groups of candidates to one number to minimise.

    Every loss falls when a positive's logit rises, and does not depend on the order of a group's candidates nor on
    padding; `tests/conformance/test_losses.py` holds each registered loss to that.
    """

    def __call__(self, logits: Tensor, labels: Tensor, mask: Tensor) -> Tensor:
        """Mean loss of a batch.

        Args:
            logits: (groups, candidates) float32.
            labels: (groups, candidates), 1 relevant, 0 not.
            mask: (groups, candidates), True where there is a candidate and not padding.

        Returns:
            A scalar.
        """
        ...

    def n_terms(self, mask: Tensor) -> int:
        """How many terms the mean is over: a batch in parts weighs each part's loss by them."""
        ...

    def chance(self, group_sizes: Sequence[int], positive_share: float) -> float:
        """The loss of a model that scores every pair alike: where training stuck means nothing was learnt."""
        ...
