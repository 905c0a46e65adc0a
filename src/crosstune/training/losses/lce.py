"""Localised contrastive estimation."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


class LocalisedContrastive:
    """Softmax cross-entropy of one positive against its own mined negatives.

    What it optimises: the probability, softmax over the group's logits, that the positive comes first. Only
    differences within a group count, so logits have no absolute meaning afterwards and need calibration.

    Requirements: a model with one logit; groups with exactly one positive and at least one negative.

    Inputs: `logits` (groups, candidates) · `labels` 1 for the positive, 0 for its negatives · `mask` False for
    padding.

    Recommendations: negatives from the top ranks of the first stage that will be reranked, with some easier ones;
    4 to 8 a group. The default for question-answer pairs.

    Relations: `BinaryCrossEntropy` judges each pair alone and keeps an absolute scale. sentence-transformers'
    MultipleNegativesRankingLoss adds random in-batch negatives and squashes the logits.

    Source: Gao, Dai and Callan, "Rethink Training of BERT Rerankers in Multi-Stage Retrieval Pipeline", 2021
    (arXiv 2101.08751).
    """

    def __call__(self, logits: Tensor, labels: Tensor, mask: Tensor) -> Tensor:
        """Mean over groups of -log softmax(positive)."""
        log_probability = logits.masked_fill(~mask, -math.inf).log_softmax(dim=1)  # (groups, candidates)
        of_positive = log_probability.masked_fill(labels < 0.5, 0.0).sum(dim=1)  # (groups,)
        return -of_positive.mean()

    def n_terms(self, mask: Tensor) -> int:
        """Groups."""
        return len(mask)

    def chance(self, group_sizes: Sequence[int], positive_share: float) -> float:
        """Mean of ln(group size)."""
        return sum(math.log(size) for size in group_sizes) / len(group_sizes)
