import math
from itertools import product

import numpy as np
import pytest
from scipy import stats

from crosstune.errors import ConfigError
from crosstune.evaluation import compare, estimate, holm, smallest_detectable_gain
from crosstune.evaluation.statistics import detectable_gain
from crosstune.types import Estimate


def own(values):
    """Every value a group of its own."""
    return [str(index) for index in range(len(values))]


def compared(differences, groups=None, seed=0):
    differences = np.asarray(differences, dtype=float)
    zeros = np.zeros(len(differences))
    return compare("nDCG@10", "before", "after", zeros, differences, groups or own(differences), seed)


def test_interval_of_the_mean_is_close_to_the_normal_one_on_many_values():
    # 400 values 0 or 1, half of each: mean 0.5, standard error 0.5 / sqrt(400) = 0.025, 1.96 x 0.025 = 0.049.
    result = estimate(np.tile([0.0, 1.0], 200), own(range(400)))
    assert result.mean == 0.5
    assert result.n == 400
    assert result.ci_low == pytest.approx(0.451, abs=0.004)
    assert result.ci_high == pytest.approx(0.549, abs=0.004)


def test_groups_and_not_questions_are_resampled():
    # 400 questions in 100 groups of 4 that succeed or fail together carry the evidence of 100 questions: the
    # standard error doubles to 0.05, and the half width to 0.098.
    values = np.repeat(np.tile([0.0, 1.0], 50), 4)
    groups = [str(index // 4) for index in range(400)]
    result = estimate(values, groups)
    assert result.n == 400
    assert result.ci_high - result.ci_low == pytest.approx(2 * 0.098, abs=0.012)


def test_mean_is_over_questions_when_groups_differ_in_size():
    # Groups of 1, 1, 1, 1, 1 and 5 questions; only the large one succeeds: 5 of 10 questions, not 1 of 6
    # groups.
    values = np.array([0.0] * 5 + [1.0] * 5)
    assert estimate(values, [*"abcde", *"fffff"]).mean == 0.5


def test_equal_seeds_give_equal_intervals_and_groups_may_come_in_any_order():
    rng = np.random.default_rng(1)
    values, groups = rng.random(50), [f"g{i % 20}" for i in range(50)]
    order = rng.permutation(50)
    assert estimate(values, groups, 3) == estimate(values, groups, 3)
    assert estimate(values, groups, 3).ci_low != estimate(values, groups, 4).ci_low
    shuffled = estimate(values[order], [groups[i] for i in order], 3)
    assert shuffled.ci_low == pytest.approx(estimate(values, groups, 3).ci_low, abs=1e-12)


def test_interval_excludes_the_truth_about_as_rarely_as_promised():
    # 300 made-up test sets of 60 values from a distribution with mean 0: 5% should miss; binomial spread of
    # 300 trials at 5% is 1.3%, and the percentile interval is a little narrow at this size, hence 2% to 9%.
    rng = np.random.default_rng(5)
    misses = 0
    for trial in range(300):
        result = estimate(rng.choice([-0.5, 0, 0, 0, 0, 0.5], size=60), own(range(60)), trial)
        misses += not result.ci_low <= 0 <= result.ci_high
    assert 6 <= misses <= 27


def test_equal_values_have_an_interval_of_no_width():
    assert estimate(np.ones(8), own(range(8))) == Estimate(1.0, 1.0, 1.0, 8)


@pytest.mark.parametrize("n_groups", [1, 5])
def test_too_few_groups_have_no_interval(n_groups):
    result = estimate(np.ones(20), [str(index % n_groups) for index in range(20)])
    assert (result.mean, result.n) == (1.0, 20)
    assert math.isnan(result.ci_low)
    assert math.isnan(result.ci_high)


@pytest.mark.parametrize(
    ("values", "groups", "message"),
    [
        ([], [], "no questions to evaluate"),
        ([1.0, 2.0], ["a"], "2 values but 1 group ids"),
        ([1.0, math.nan], ["a", "b"], "1 of 2 values are not finite"),
    ],
)
def test_unusable_values_are_refused(values, groups, message):
    with pytest.raises(ConfigError, match=message):
        estimate(np.array(values), groups)


def test_permutation_p_counts_every_sign_pattern_of_few_groups():
    # 8 differences: 2^8 = 256 sign patterns, each sum worked out here.
    differences = np.array([0.3, 0.1, -0.05, 0.4, 0.25, 0.2, -0.1, 0.35])
    sums = [float(np.dot(signs, differences)) for signs in product([1, -1], repeat=8)]
    expected = np.mean([abs(s) >= abs(differences.sum()) - 1e-12 for s in sums])
    assert compared(differences).p_value == pytest.approx(expected)


def test_all_wins_have_the_smallest_p_that_the_number_of_groups_allows():
    # Only the all-plus and the all-minus pattern are as far from 0: 2 of 2^6.
    assert compared([0.1] * 6).p_value == pytest.approx(2 / 64)


def test_signs_are_flipped_by_whole_group():
    # 12 questions in 6 groups are 6 coins, not 12: 2 / 2^6 and not 2 / 2^12.
    groups = [str(index // 2) for index in range(12)]
    assert compared([0.1] * 12, groups).p_value == pytest.approx(2 / 64)


def test_plus_one_correction_keeps_p_above_zero():
    # 60 wins: no random pattern of 9,999 comes near, so one side is (0 + 1) / 10,000, two sides twice that.
    assert compared([0.1] * 60).p_value == pytest.approx(2 / 10_000)


def test_p_of_many_groups_agrees_with_the_t_test():
    rng = np.random.default_rng(11)
    differences = rng.normal(0.05, 0.3, size=200)
    expected = stats.ttest_1samp(differences, 0).pvalue
    assert 0.005 < expected < 0.2
    assert compared(differences).p_value == pytest.approx(expected, abs=0.01)


def test_p_is_uniform_when_nothing_differs():
    # 200 made-up null comparisons: 5% below 0.05, binomial spread 1.5%.
    rng = np.random.default_rng(2)
    p = [compared(rng.normal(size=12), seed=trial).p_value for trial in range(200)]
    assert 2 <= sum(value < 0.05 for value in p) <= 19
    assert 0.42 < np.mean(p) < 0.58


def test_wins_ties_losses_and_effect_size_by_hand():
    # Differences 0.2, 0.2, -0.1, 0, 0, 0 (one of them rounding noise): mean 0.05; squared distances from it
    # 2 x 0.0225 + 0.0225 + 3 x 0.0025 = 0.075, over 5 = 0.015; d_z = 0.05 / sqrt(0.015) = 0.40825.
    result = compared([0.2, 0.2, -0.1, 0, 1e-15, 0])
    assert (result.wins, result.ties, result.losses) == (2, 3, 1)
    assert result.effect_size == pytest.approx(0.40825, abs=1e-5)
    assert result.delta.mean == pytest.approx(0.05)
    assert (result.measure, result.baseline, result.candidate) == ("nDCG@10", "before", "after")
    # Three groups differ: the 8 patterns sum to ±0.5, ±0.3, and twice ±0.1; as far from 0 as 0.3 are 4.
    assert result.p_value == pytest.approx(4 / 8)
    assert result.p_holm == result.p_value


def test_equal_rankings_prove_nothing():
    result = compared([0.0] * 10)
    assert (result.p_value, result.effect_size, result.ties) == (1.0, 0.0, 10)
    assert result.delta == Estimate(0.0, 0.0, 0.0, 10)


def test_one_question_proves_nothing():
    result = compared([0.5])
    assert result.p_value == 1.0
    assert math.isnan(result.effect_size)
    assert math.isnan(result.delta.ci_low)


def test_the_same_difference_everywhere_is_an_infinite_effect():
    assert compared([-0.25] * 7).effect_size == -math.inf


def test_rankings_of_different_questions_cannot_be_compared():
    with pytest.raises(ConfigError, match='"a" has 2 values and "b" has 3'):
        compare("nDCG@10", "a", "b", np.zeros(2), np.zeros(3), ["1", "2"])


def test_values_handed_in_are_not_changed():
    values = np.array([1e-12, 0.5])
    compare("nDCG@10", "a", "b", np.zeros(2), values, ["1", "2"])
    assert values.tolist() == [1e-12, 0.5]


def test_holm_by_hand():
    # Sorted 0.005, 0.01, 0.03, 0.04 times 4, 3, 2, 1: 0.02, 0.03, 0.06, 0.04; the last is lifted to 0.06.
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.5, 0.9, 0.6]) == [1.0, 1.0, 1.0]
    assert holm([0.03]) == [0.03]
    assert holm([]) == []


@pytest.mark.parametrize(("n", "expected"), [(50, 0.119), (200, 0.059), (500, 0.038)])
def test_smallest_detectable_gain(n, expected):
    assert round(smallest_detectable_gain(n), 3) == expected


def test_smallest_detectable_gain_has_the_power_it_promises():
    # 1,000 made-up experiments with exactly that gain, tested by an independent z-test: 80% succeed, spread
    # 1.3%.
    rng = np.random.default_rng(9)
    gain = smallest_detectable_gain(100, sd=0.2)
    means = rng.normal(gain, 0.2, size=(1000, 100)).mean(axis=1)
    assert np.mean(means / (0.2 / 10) > 1.95996) == pytest.approx(0.8, abs=0.04)


def test_smallest_detectable_gain_of_no_questions_is_refused():
    with pytest.raises(ConfigError, match="at least 1 question"):
        smallest_detectable_gain(0)


def test_detectable_gain_of_a_measured_interval():
    # Half width 0.0588 = 1.96 standard errors of 0.03, so 2.8016 x 0.03 = 0.0840.
    assert detectable_gain(Estimate(0.1, 0.0412, 0.1588, 100)) == pytest.approx(0.0840, abs=1e-4)
    assert math.isnan(detectable_gain(Estimate(0.1, math.nan, math.nan, 3)))
