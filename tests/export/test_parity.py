import math

import numpy as np
import pytest

from crosstune.errors import ConfigError, CrosstuneError
from crosstune.evaluation import estimate
from crosstune.export import ParityError, compare_logits
from crosstune.types import Estimate

GROUPS = {"a": "1", "b": "2"}
TORCH = {"a": np.array([3.0, 2.0, 1.0]), "b": np.array([0.0, 1.0, 2.0, 3.0])}


def compared(found, *, precision="int8", expected=TORCH, values=None, interval=None):
    """Compare with a measure that gives 1.0 before and `values` after, and an interval given by hand."""
    n = len(expected)

    def measure(logits):
        return np.ones(n) if logits is expected else np.asarray(values if values is not None else np.ones(n))

    return compare_logits(expected, found, precision, measure, interval or estimate, GROUPS)


def told(mean, low, high):
    return lambda values, groups: Estimate(mean, low, high, len(values))


def test_equal_logits_pass_with_exact_figures():
    parity = compared(TORCH, precision="fp32")
    assert (parity.n_queries, parity.n_pairs, parity.max_abs_diff, parity.rank_correlation) == (2, 7, 0.0, 1.0)
    assert parity.ndcg_delta.mean == 0.0
    assert parity.passed


def test_rank_correlation_by_hand():
    # a: last two swapped, d = 0 1 1, 1 - 6 * 2 / (3 * 8) = 0.5. b: unchanged, 1. Mean 0.75.
    parity = compared({"a": np.array([3.0, 1.0, 2.0]), "b": TORCH["b"] + 0.25})
    assert parity.rank_correlation == pytest.approx(0.75)
    assert parity.max_abs_diff == 1.0
    assert parity.reasons == ("rank correlation 0.7500 is below 0.98",)


def test_the_mean_may_fall_by_half_a_point_or_by_chance():
    assert compared(TORCH, interval=told(-0.005, -0.01, -0.001)).passed
    assert compared(TORCH, interval=told(-0.0051, -0.01, 0.0)).passed
    refused = compared(TORCH, interval=told(-0.0051, -0.01, -0.001))
    assert refused.reasons == ("nDCG@10 falls by 0.0051, more than 0.005",)


def test_the_pessimistic_end_may_fall_by_two_points():
    assert compared(TORCH, interval=told(0.0, -0.02, 0.02)).passed
    refused = compared(TORCH, interval=told(0.0, -0.021, 0.02))
    assert refused.reasons == ("nDCG@10 may fall by 0.0210 (95% interval), more than 0.02",)


def test_the_measure_is_of_export_minus_torch():
    # One of two questions falls by 0.5: mean -0.25; two groups carry no interval.
    parity = compared(dict(TORCH), values=[1.0, 0.5])
    assert parity.ndcg_delta.mean == pytest.approx(-0.25)
    assert math.isnan(parity.ndcg_delta.ci_low)
    assert parity.to_json()["ndcg_delta"]["ci_low"] is None
    assert "too few groups" in parity.sentence()
    assert not parity.passed


def test_float32_must_have_the_same_logits():
    moved = {query: logits + 0.002 for query, logits in TORCH.items()}
    assert compared(moved, precision="bf16").passed
    assert compared(moved, precision="fp32").reasons == ("logits differ by up to 0.002, more than 0.001",)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_logits_that_are_not_finite_are_refused(bad):
    parity = compared({"a": np.array([3.0, 2.0, bad]), "b": TORCH["b"]})
    assert "not finite" in parity.reasons[0]
    assert parity.to_json()["max_abs_diff"] is None


def test_constant_logits_have_lost_the_order():
    parity = compared({"a": np.zeros(3), "b": TORCH["b"]})
    assert parity.rank_correlation == 0.5


def test_questions_without_an_order_do_not_count():
    expected = {"a": np.array([1.0, 2.0]), "b": TORCH["b"]}
    found = {"a": np.array([2.0, 1.0]), "b": TORCH["b"]}
    assert compared(found, expected=expected).rank_correlation == 1.0
    nothing = {"a": np.array([1.0, 2.0]), "b": np.ones(4)}
    with pytest.raises(ConfigError, match="three candidates"):
        compared(nothing, expected=nothing)


def test_the_error_is_ours():
    assert issubclass(ParityError, CrosstuneError)
