"""Whether an export ranks as the model does: the gate that every artefact passes before it may serve.

Nothing here knows a runtime or a measure: logits come in as numbers, the measure and its interval as functions.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import spearmanr

from crosstune.errors import ConfigError, CrosstuneError
from crosstune.types import Estimate

Logits = dict[str, NDArray[np.float64]]
Measure = Callable[[Logits], NDArray[np.float64]]
Interval = Callable[[NDArray[np.float64], Sequence[str]], Estimate]

MIN_RANK_CORRELATION = 0.98
"""Least mean Spearman correlation of a question's candidates: below it more than neighbours change places."""
MAX_MEAN_FALL = 0.005
"""Most that nDCG@10 may fall on average once a fall is proven or no interval can be told: far below the smallest gain
that a hundred test questions show (0.036 in the demo). With fifty dev questions one pair of neighbours that change
places can be more than this, and prove nothing."""
MAX_LOW_FALL = 0.02
"""Most that nDCG@10 may fall by the pessimistic end of its 95% interval: few dev questions prove little."""
MAX_FP32_DIFFERENCE = 1e-3
"""Most that a logit may move in float32, where only the order of additions differs."""


class ParityError(CrosstuneError):
    """An export does not rank as the model does."""


@dataclass(frozen=True, slots=True)
class Parity:
    """How an export's logits compare with torch's in float32, on candidates of dev questions.

    Attributes:
        n_queries, n_pairs: What was compared.
        max_abs_diff: Largest difference of a logit.
        rank_correlation: Mean over questions of the Spearman correlation of their candidates' logits.
        ndcg_delta: Export minus torch, nDCG@10, with its interval over groups; NaN ends with fewer than 6 groups.
        reasons: Why it is refused; empty when it passes.
    """

    n_queries: int
    n_pairs: int
    max_abs_diff: float
    rank_correlation: float
    ndcg_delta: Estimate
    reasons: tuple[str, ...]

    @property
    def passed(self) -> bool:
        """Whether it may serve."""
        return not self.reasons

    def to_json(self) -> dict[str, Any]:
        """Plain values; NaN, which JSON has not, as None."""
        content = asdict(self)
        content["ndcg_delta"] = {key: _finite(value) for key, value in content["ndcg_delta"].items()}
        return {key: _finite(value) for key, value in content.items()}

    def sentence(self) -> str:
        """The figures, for the user."""
        delta = self.ndcg_delta
        interval = (
            "too few groups for an interval"
            if math.isnan(delta.ci_low)
            else f"95% interval {delta.ci_low:+.4f} to {delta.ci_high:+.4f}"
        )
        return (
            f"rank correlation {self.rank_correlation:.4f}, nDCG@10 {delta.mean:+.4f} ({interval}), largest logit "
            f"difference {self.max_abs_diff:.2g}, on {self.n_pairs:,} pairs of {self.n_queries} dev questions"
        )


def compare_logits(
    expected: Logits, found: Logits, precision: str, measure: Measure, interval: Interval, groups: Mapping[str, str]
) -> Parity:
    """Compare an export with torch in float32.

    Args:
        expected: query_id -> torch's logits of its candidates.
        found: The export's, in the same order.
        precision: What the export computes in; "fp32" must also have the same logits.
        measure: Logits to the measure's value for each query, in the order of `expected`.
        interval: Values and group ids to the mean with its interval.
        groups: query_id -> group id.

    Raises:
        ConfigError: No question has three candidates or more, so that there is no order to compare.
    """
    ours, theirs = (np.concatenate([logits[q] for q in expected]) for logits in (expected, found))
    finite = bool(np.isfinite(theirs).all())
    largest = float(np.abs(ours - theirs).max(initial=0.0)) if finite else math.inf
    correlation = _rank_correlation(expected, found) if finite else 0.0
    delta = interval(measure(found) - measure(expected), [groups[q] for q in expected])
    reasons = [] if finite else ["it gives logits that are not finite"]
    reasons += _reasons(largest, correlation, delta, precision)
    return Parity(len(expected), len(ours), largest, correlation, delta, tuple(reasons))


def _reasons(largest: float, correlation: float, delta: Estimate, precision: str) -> list[str]:
    reasons = []
    if correlation < MIN_RANK_CORRELATION:
        reasons.append(f"rank correlation {correlation:.4f} is below {MIN_RANK_CORRELATION}")
    if delta.mean < -MAX_MEAN_FALL and not delta.ci_high >= 0:  # also where the ends are NaN
        reasons.append(f"nDCG@10 falls by {-delta.mean:.4f}, more than {MAX_MEAN_FALL}")
    if delta.ci_low < -MAX_LOW_FALL:
        reasons.append(f"nDCG@10 may fall by {-delta.ci_low:.4f} (95% interval), more than {MAX_LOW_FALL}")
    if precision == "fp32" and largest > MAX_FP32_DIFFERENCE:
        reasons.append(f"logits differ by up to {largest:.2g}, more than {MAX_FP32_DIFFERENCE:g}")
    return reasons


def _rank_correlation(expected: Logits, found: Logits) -> float:
    # Two candidates have one order or the other, and equal scores none.
    queries = [q for q, logits in expected.items() if len(logits) > 2 and np.ptp(logits) > 0]
    if not queries:
        raise ConfigError(
            "no dev question has three candidates with different scores, so an export cannot be compared with the "
            "model; give the data that the model was tuned on"
        )
    # A constant answer has no correlation; it has lost the order, which is as bad as none.
    each = [float(spearmanr(expected[q], found[q]).statistic) if np.ptp(found[q]) > 0 else 0.0 for q in queries]
    return float(np.mean(each))


def _finite(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value
