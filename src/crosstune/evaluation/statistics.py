"""How sure a figure is: intervals, paired tests, and what a test set could have shown at all.

Questions of one group (near-duplicates, or sharing an answer) succeed and fail together, so groups and not
questions are the independent observations: they are resampled, and their signs flipped, as a whole.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from crosstune.errors import ConfigError
from crosstune.types import Comparison, Estimate

N_RESAMPLES = 9999
CONFIDENCE = 0.95
POWER = 0.80

MIN_GROUPS = 6
"""Fewest groups that can carry a 95% interval. With 5, all differences have one sign by chance alone in
2 / 2^5 = 6% of cases, and every bootstrap interval would then exclude 0; with 6 it is 3%."""

# Resamples held in memory at once: 100 x 2,000 groups is 1.6 MB, stays in the cache, and is also the fastest.
_BATCH = 100

# trec_eval's sums differ in the last bits when the same gains are added in another order.
_TIE = 1e-9

FloatArray = NDArray[np.float64]


def estimate(values: FloatArray, groups: Sequence[str], seed: int = 0) -> Estimate:
    """Mean with its 95% percentile bootstrap interval over groups.

    The mean is over questions: the ratio of the groups' sums to the groups' sizes, both resampled together.

    Args:
        values: One value for each question.
        groups: Group id of each question, in the same order.
        seed: Of the resampling. Equal seeds give equal resamples, so rows of one table are resampled alike.

    Returns:
        The estimate. With fewer than `MIN_GROUPS` groups both ends are NaN: no interval can be told.

    Raises:
        ConfigError: There are no values, some are not finite, or the lengths differ.
    """
    values = _checked(values, groups)
    sums, sizes = by_group(values, groups)
    mean = float(sums.sum() / sizes.sum())
    if len(sums) < MIN_GROUPS:
        return Estimate(mean, math.nan, math.nan, len(values))
    if np.ptp(values) == 0:
        return Estimate(mean, mean, mean, len(values))
    interval = stats.bootstrap(
        (sums, sizes),
        _ratio,
        paired=True,
        vectorized=True,
        n_resamples=N_RESAMPLES,
        batch=_BATCH,
        confidence_level=CONFIDENCE,
        method="percentile",
        rng=np.random.default_rng(seed),
    ).confidence_interval
    return Estimate(mean, float(interval.low), float(interval.high), len(values))


def compare(
    measure: str,
    baseline_name: str,
    candidate_name: str,
    baseline_values: FloatArray,
    candidate_values: FloatArray,
    groups: Sequence[str],
    seed: int = 0,
) -> Comparison:
    """Paired comparison of two rankings on the same questions.

    The p-value is of the two-sided paired permutation test: under the null hypothesis each group's
    differences could as well have the other sign. Up to 13 groups all sign patterns are counted; above, 9,999
    random ones and the observed one (the +1 correction), so that it is never 0.

    Returns:
        The comparison; `p_holm` is the p-value of a family of one. Questions whose values differ by less than
        1e-9 are ties. The effect size is infinite when every question differs by the same amount.

    Raises:
        ConfigError: As `estimate`, or the two rankings have values for different numbers of questions.
    """
    if len(baseline_values) != len(candidate_values):
        raise ConfigError(
            f'"{baseline_name}" has {len(baseline_values)} values and "{candidate_name}" has '
            f"{len(candidate_values)}; a paired comparison needs both on the same questions"
        )
    differences = np.asarray(candidate_values, dtype=np.float64) - np.asarray(baseline_values, dtype=np.float64)
    differences[np.abs(differences) < _TIE] = 0.0
    p_value = _permutation_p(differences, groups, seed)
    return Comparison(
        measure=measure,
        baseline=baseline_name,
        candidate=candidate_name,
        delta=estimate(differences, groups, seed),
        p_value=p_value,
        p_holm=p_value,
        effect_size=_d_z(differences),
        wins=int((differences > 0).sum()),
        ties=int((differences == 0).sum()),
        losses=int((differences < 0).sum()),
    )


def holm(p_values: Sequence[float]) -> list[float]:
    """p-values corrected for the size of their family (Holm 1979), in the order given.

    The smallest is multiplied by the family's size m, the next by m - 1, and so on; none may fall below a
    smaller one's corrected value, nor rise above 1.
    """
    corrected = [0.0] * len(p_values)
    highest = 0.0
    for n_before, index in enumerate(sorted(range(len(p_values)), key=lambda i: p_values[i])):
        highest = max(highest, min(1.0, (len(p_values) - n_before) * p_values[index]))
        corrected[index] = highest
    return corrected


def smallest_detectable_gain(n: int, sd: float = 0.30) -> float:
    """Smallest true gain that a test set of n independent questions shows with 80% power at 5%.

    Args:
        n: Number of independent questions (groups).
        sd: Standard deviation of the paired per-question differences; 0.30 when none was measured yet.

    Raises:
        ConfigError: `n` is below 1.
    """
    if n < 1:
        raise ConfigError(f"a test set needs at least 1 question, this one has {n}; provide more data")
    return float(_power_factor() * sd / math.sqrt(n))


def detectable_gain(delta: Estimate) -> float:
    """Smallest true gain that the test set behind a measured difference shows with 80% power at 5%.

    The interval's half width over z is the standard error, groups included; NaN when there is no interval.
    """
    standard_error = (delta.ci_high - delta.ci_low) / (2 * stats.norm.ppf((1 + CONFIDENCE) / 2))
    return float(_power_factor() * standard_error)


def _power_factor() -> float:
    return float(stats.norm.ppf((1 + CONFIDENCE) / 2) + stats.norm.ppf(POWER))


def _checked(values: FloatArray, groups: Sequence[str]) -> FloatArray:
    values = np.asarray(values, dtype=np.float64)
    if len(values) != len(groups):
        raise ConfigError(f"{len(values)} values but {len(groups)} group ids; every value needs its group")
    if not len(values):
        raise ConfigError("no questions to evaluate; the evaluated split needs at least one judged question")
    if not np.isfinite(values).all():
        raise ConfigError(f"{int((~np.isfinite(values)).sum())} of {len(values)} values are not finite numbers")
    return values


def by_group(values: FloatArray, groups: Sequence[str]) -> tuple[FloatArray, FloatArray]:
    """Sums (groups,) of the questions' values, and how many questions each group has (groups,)."""
    _, index = np.unique(np.asarray(groups, dtype=str), return_inverse=True)
    sums: FloatArray = np.bincount(index, weights=values).astype(np.float64)
    return sums, np.bincount(index).astype(np.float64)


def _ratio(sums: FloatArray, sizes: FloatArray, axis: int = -1) -> FloatArray:
    ratio: FloatArray = sums.sum(axis=axis) / sizes.sum(axis=axis)
    return ratio


def _permutation_p(differences: FloatArray, groups: Sequence[str], seed: int) -> float:
    sums, _ = by_group(_checked(differences, groups), groups)
    # A group without a difference is the same under either sign. Leaving it out changes no p-value, and lets
    # more cases be counted in full.
    sums = sums[np.abs(sums) > _TIE]
    if len(sums) < 2:
        return 1.0  # both signs of a single difference are equally far from 0
    result = stats.permutation_test(
        (sums,),
        np.sum,
        permutation_type="samples",
        vectorized=True,
        n_resamples=N_RESAMPLES,
        batch=_BATCH,
        alternative="two-sided",
        rng=np.random.default_rng(seed),
    )
    return float(result.pvalue)


def _d_z(differences: FloatArray) -> float:
    if not differences.any():
        return 0.0
    if len(differences) < 2:
        return math.nan
    mean, sd = differences.mean(), differences.std(ddof=1)
    return float(mean / sd) if sd > 1e-12 else math.copysign(math.inf, mean)
