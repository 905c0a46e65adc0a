"""Reranker losses. To add one: a file here and a line in `LOSSES`; the conformance suite picks it up."""

from __future__ import annotations

from collections.abc import Callable

from crosstune.errors import ConfigError
from crosstune.training.losses.base import Loss
from crosstune.training.losses.bce import BinaryCrossEntropy
from crosstune.training.losses.lce import LocalisedContrastive

LOSSES: dict[str, Callable[[], Loss]] = {
    "bce": BinaryCrossEntropy,
    "lce": LocalisedContrastive,
}


def make_loss(name: str, pos_weight: float | None = None) -> Loss:
    """The loss of that name.

    Args:
        name: A key of `LOSSES`.
        pos_weight: For "bce" only.

    Raises:
        ConfigError: Unknown name, or `pos_weight` for a loss without one.
    """
    if name not in LOSSES:
        raise ConfigError(f"unknown loss {name!r}; choose from {', '.join(sorted(LOSSES))}")
    if pos_weight is None:
        return LOSSES[name]()
    if name != "bce":
        raise ConfigError(f'pos_weight belongs to the loss "bce", not {name!r}')
    return BinaryCrossEntropy(pos_weight)


__all__ = ["LOSSES", "BinaryCrossEntropy", "LocalisedContrastive", "Loss", "make_loss"]
