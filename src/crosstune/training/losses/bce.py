"""Binary cross-entropy."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from crosstune.errors import ConfigError

if TYPE_CHECKING:
    from torch import Tensor


class BinaryCrossEntropy:
    """Cross-entropy of each pair on its own: does this passage answer this question?

    What it optimises: the probability sigmoid(logit) of every pair's label, pairs of a batch counted alike.

    Requirements: a model with one logit; labels 0 or 1, or in between.

    Inputs: `logits` (groups, candidates) · `labels` in [0, 1] · `mask` False for padding.

    Recommendations: when scores must have an absolute meaning, or for labelled pairs without groups. `pos_weight`
    near the number of negatives per positive balances mined groups; 1 fits data that is balanced already.

    Relations: `LocalisedContrastive` compares the candidates of one question and usually ranks better. Equals
    torch's BCEWithLogitsLoss, which sentence-transformers uses for one label, at `pos_weight=1`.

    Args:
        pos_weight: Factor on the loss of positives, above 0.

    Raises:
        ConfigError: `pos_weight` is not above 0.
    """

    def __init__(self, pos_weight: float = 1.0) -> None:
        if not pos_weight > 0:
            raise ConfigError(f"pos_weight must be above 0, found {pos_weight}")
        self.pos_weight = pos_weight

    def __call__(self, logits: Tensor, labels: Tensor, mask: Tensor) -> Tensor:
        """Mean over the batch's pairs."""
        from torch.nn.functional import binary_cross_entropy_with_logits

        weight = logits.new_tensor(self.pos_weight)
        return binary_cross_entropy_with_logits(logits[mask], labels[mask], pos_weight=weight)

    def n_terms(self, mask: Tensor) -> int:
        """Pairs."""
        return int(mask.sum())

    def chance(self, group_sizes: Sequence[int], positive_share: float) -> float:
        """ln 2 when balanced (logit 0); with `pos_weight` the loss of the best constant logit."""
        positive, negative = self.pos_weight * positive_share, 1 - positive_share
        if positive == 0 or negative == 0:
            return 0.0
        p = positive / (positive + negative)
        return -(positive * math.log(p) + negative * math.log(1 - p))
