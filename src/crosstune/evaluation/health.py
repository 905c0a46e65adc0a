"""Signs that a model or its training went wrong, each with a stable name.

A model can fail in ways that leave its ranking table merely mediocre: these checks name the cause. Fatal
findings mean that the model must not be shipped.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from crosstune.errors import ConfigError
from crosstune.types import HealthFinding

CONSTANT_RANGE = 1e-4
"""Logit range of a query's candidates under which they count as equal. Runtimes of one model agree to about
1e-5, so an order made of smaller steps than ten times that would not survive the change to another
runtime."""

NEAR_CONSTANT_SD = 0.01
"""Standard deviation of a query's logits under which they hardly differ. bf16 keeps 8 bits: near logit 2 to 4
its step is 1/64 = 0.016, so such an order is lost in half precision and in int8."""

SATURATION_LOGIT = 16.64
"""ln 2^24. From here on 1 + exp(-logit) is 1 in float32, every probability is 1, and all tie."""

SATURATED_SHARE = 0.05
"""A healthy reranker's logits lie within about -12 to 12; a few outliers are no finding."""

CHANCE_BAND = 0.05
"""Share of the chance value that the loss has to fall by. At 5% below ln 2 a positive leads a negative by
0.07 of a logit and wins 52% of pairs instead of 50%: nothing a user would notice was learned."""

_N_LOSS_WINDOWS = 10

TRUNCATED_SHARE = 0.05
"""At 5%, truncation can move a mean over questions by up to 0.05, about what 300 test questions can show."""


def check_scores(scores_by_query: Mapping[str, Sequence[float]]) -> tuple[HealthFinding, ...]:
    """Look for NaN, constant, near-constant and saturated logits.

    Whether scores are constant is asked within each query, since only there they make an order; the median
    query decides. Queries with one candidate have no order and are not asked.

    Args:
        scores_by_query: query_id -> logits of its candidates.

    Raises:
        ConfigError: There are no scores.
    """
    rows = [np.asarray(scores, dtype=np.float64) for scores in scores_by_query.values() if len(scores)]
    if not rows:
        raise ConfigError("no scores to check; score at least one query's candidates")
    scores = np.concatenate(rows)
    n_bad = int((~np.isfinite(scores)).sum())
    if n_bad:
        message = f"{n_bad:,} of {len(scores):,} scores are NaN or infinite; lower the learning rate or use fp32."
        return (HealthFinding("nan-scores", True, message),)
    return (*_check_spread(rows), *_check_saturation(scores))


def check_losses(losses: Sequence[float], chance: float) -> tuple[HealthFinding, ...]:
    """Look for NaN in the training loss, and for a loss that never got better than guessing.

    The series is cut into up to 10 consecutive stretches of equal length; the best stretch's mean decides, so
    one lucky batch does not hide a stuck training.

    Args:
        losses: Training losses in the order of the steps.
        chance: Loss of a model that gives every passage the same score: ln 2 for balanced binary
            cross-entropy, ln k for the softmax over k passages.

    Raises:
        ConfigError: There are no losses.
    """
    series = np.asarray(losses, dtype=np.float64)
    if not len(series):
        raise ConfigError("no training losses to check; log at least one step")
    bad = np.flatnonzero(~np.isfinite(series))
    if len(bad):
        message = (
            f"The loss was NaN or infinite {len(bad):,} times, first at value {bad[0] + 1:,} of "
            f"{len(series):,}; lower the learning rate or use fp32."
        )
        return (HealthFinding("nan-loss", True, message),)
    best = min(float(part.mean()) for part in np.array_split(series, min(_N_LOSS_WINDOWS, len(series))))
    if best < (1 - CHANCE_BAND) * chance:
        return ()
    message = (
        f"The training loss never got more than {CHANCE_BAND:.0%} below {chance:.3f}, the value of guessing "
        f"(best stretch {best:.3f}, last value {series[-1]:.3f}): nothing was learned. "
        "Train longer, lower the learning rate, or check that the answers belong to the questions."
    )
    return (HealthFinding("loss-at-chance", True, message),)


def check_truncation(share: float) -> tuple[HealthFinding, ...]:
    """Report when more than 5% of the pairs are longer than the model may read.

    Args:
        share: Pairs that were cut, as a share of all pairs.

    Raises:
        ConfigError: The share is not within 0 to 1.
    """
    if not 0 <= share <= 1:
        raise ConfigError(f"the share of truncated pairs is {share}, expected 0 to 1")
    if share <= TRUNCATED_SHARE:
        return ()
    message = (
        f"{share:.1%} of the pairs are longer than the maximum length, and their ends were not read; "
        "raise the maximum length or split long answers."
    )
    return (HealthFinding("pairs-truncated", False, message),)


def fresh_head(base: str) -> HealthFinding:
    """Say that the base had no ranking head, so that it was trained from random numbers."""
    message = (
        f"{base} is a bare encoder: its ranking head was freshly initialised and knows only your training "
        "data. On small data an existing reranker is the better base."
    )
    return HealthFinding("fresh-head", False, message)


def _check_spread(rows: Sequence[NDArray[np.float64]]) -> tuple[HealthFinding, ...]:
    ordered = [row for row in rows if len(row) > 1]
    if not ordered:
        return ()
    median_range = float(np.median([np.ptp(row) for row in ordered]))
    median_sd = float(np.median([row.std() for row in ordered]))
    if median_range < CONSTANT_RANGE:
        message = (
            "The model gives all candidates of a question the same score (median range "
            f"{median_range:.1e}): it has collapsed. Lower the learning rate, or start from another base."
        )
        return (HealthFinding("constant-scores", True, message),)
    if median_sd < NEAR_CONSTANT_SD:
        message = (
            "The scores of a question's candidates hardly differ (median standard deviation "
            f"{median_sd:.4f}): the order is lost in bf16 or int8. Train longer, or start from another base."
        )
        return (HealthFinding("near-constant-scores", False, message),)
    return ()


def _check_saturation(scores: NDArray[np.float64]) -> tuple[HealthFinding, ...]:
    share = float((np.abs(scores) > SATURATION_LOGIT).mean())
    if share <= SATURATED_SHARE:
        return ()
    message = (
        f"{share:.1%} of the logits are beyond ±{SATURATION_LOGIT}: as probabilities they are 0 or 1 to "
        "seven digits, where candidates tie. Rank by logit, and lower the learning rate or train less."
    )
    return (HealthFinding("saturated-scores", False, message),)
