import math

import numpy as np
import pytest
from scipy.special import expit

from crosstune.errors import ConfigError
from crosstune.evaluation import expected_calibration_error, fit_calibration
from crosstune.types import Calibration


def by_query(values, size):
    return {f"q{i}": list(values[i * size : (i + 1) * size]) for i in range(len(values) // size)}


def drawn(temperature, bias, n=40_000):
    """Logits, and labels drawn with probability sigmoid(logit / temperature + bias)."""
    rng = np.random.default_rng(4)
    logits = rng.normal(0, 4, size=n)
    labels = (rng.random(n) < expit(logits / temperature + bias)).astype(int)
    return logits, labels


@pytest.mark.parametrize(("temperature", "bias"), [(1.0, 0.0), (2.5, -1.0), (0.4, 0.7)])
def test_the_scale_that_made_the_labels_is_found_again(temperature, bias):
    logits, labels = drawn(temperature, bias)
    fitted = fit_calibration(by_query(logits, 20), by_query(labels, 20))
    # 40,000 labels: standard errors of slope and bias are about 2% and 0.02.
    assert fitted.temperature == pytest.approx(temperature, rel=0.06)
    assert fitted.bias == pytest.approx(bias, abs=0.06)
    assert expected_calibration_error(fitted.probability(logits), labels) < 0.01


def test_calibration_repairs_overconfident_logits():
    logits, labels = drawn(3.0, -1.0)
    before = expected_calibration_error(expit(logits), labels)
    fitted = fit_calibration(by_query(logits, 20), by_query(labels, 20))
    assert before > 0.1
    assert expected_calibration_error(fitted.probability(logits), labels) < before / 10


def test_two_points_by_hand():
    # Logit 2 has 3 relevant of 4, logit -2 has 1 of 4: n1 = n0 = 4, targets 5/6 and 1/6. Mean target at logit
    # 2: (3 x 5/6 + 1/6) / 4 = 2/3, whose logit is ln 2; at -2 it is -ln 2. So 2 / T = ln 2 and bias 0.
    fitted = fit_calibration(
        {"a": [2.0, 2.0, 2.0, 2.0], "b": [-2.0, -2.0, -2.0, -2.0]}, {"a": [1, 1, 1, 0], "b": [0, 0, 1, 0]}
    )
    assert fitted.temperature == pytest.approx(2 / math.log(2), rel=1e-4)
    assert fitted.bias == pytest.approx(0, abs=1e-4)


def test_separable_data_gives_a_finite_scale():
    # Targets 5/6 and 1/6 as above, now with one logit for each class: 3 / T = ln 5.
    fitted = fit_calibration({f"q{i}": [3.0, -3.0] for i in range(4)}, {f"q{i}": [1, 0] for i in range(4)})
    assert fitted.temperature == pytest.approx(3 / math.log(5), rel=1e-4)
    assert fitted.bias == pytest.approx(0, abs=1e-4)


def test_huge_separable_logits_are_fitted_too():
    fitted = fit_calibration({f"q{i}": [900.0, 100.0] for i in range(4)}, {f"q{i}": [1, 0] for i in range(4)})
    assert fitted.probability(np.array([900.0, 100.0])) == pytest.approx([5 / 6, 1 / 6], abs=1e-4)


def test_the_order_is_kept_even_when_the_model_ranks_backwards():
    logits = {f"q{i}": [3.0, -3.0] for i in range(5)}
    fitted = fit_calibration(logits, {query_id: [0, 1] for query_id in logits})
    assert fitted.temperature > 0
    low, high = fitted.probability(np.array([-3.0, 3.0]))
    assert low < high


def test_probability_is_in_float64_where_float32_has_rounded_to_one():
    identity = Calibration(1.0, 0.0, 0.5, 1.0, 1.0, 2)
    assert np.float32(1) - np.float32(expit(np.float32(20))) == 0
    result = identity.probability(np.array([20.0], dtype=np.float32))
    assert result.dtype == np.float64
    assert 1 - result[0] == pytest.approx(math.exp(-20), rel=1e-6)
    assert Calibration(2.0, -1.0, 0.5, 1.0, 1.0, 2).probability(np.array([2.0]))[0] == 0.5


def test_threshold_separates_answerable_from_unanswerable_cases():
    # Best logits: answerable 4, 5, 6; with the relevant passage taken away 1, 2, 0. All six are told apart by
    # any threshold between logits 2 and 4.
    fitted = fit_calibration(
        {"a": [4.0, 1.0, -1.0], "b": [5.0, 2.0], "c": [6.0, 0.0]}, {"a": [1, 0, 0], "b": [1, 0], "c": [1, 0]}
    )
    low, high = fitted.probability(np.array([2.0, 4.0]))
    assert fitted.threshold == pytest.approx((low + high) / 2)
    assert (fitted.precision, fitted.recall, fitted.n) == (1.0, 1.0, 6)


def test_threshold_precision_and_recall_by_hand():
    # a: relevant 5 above 1: answerable 5, unanswerable 1. b: relevant 0 below 3: best is 3 in both cases.
    # c: the relevant passage was not found, best 2: unanswerable only. d: all are relevant: answerable 4
    # only. Answerable 5, 3, 4; unanswerable 1, 3, 2. Between 3 and 4: recall 2/3, specificity 1, balanced
    # 5/6; between 2 and 3: 1 and 2/3, the same. The higher is taken: nothing wrong passes, 2 of 3 answers do.
    fitted = fit_calibration(
        {"a": [5.0, 1.0], "b": [3.0, 0.0], "c": [2.0, -1.0], "d": [4.0, 3.5]},
        {"a": [1, 0], "b": [0, 1], "c": [0, 0], "d": [2, 1]},
    )
    low, high = fitted.probability(np.array([3.0, 4.0]))
    assert low < fitted.threshold < high
    assert fitted.precision == 1.0
    assert fitted.recall == pytest.approx(2 / 3)
    assert fitted.n == 6


def test_wrong_answers_above_the_threshold_cost_precision():
    # Answerable 5, 4, 3; unanswerable 4.5, 0, 0. Between 0 and 3: recall 1, specificity 2/3, balanced 5/6,
    # the best (above 4.5: 1/3 and 1). Above it are 3 right and 1 wrong.
    fitted = fit_calibration(
        {"a": [5.0, 4.5], "b": [4.0, 0.0], "c": [3.0, 0.0]}, {"a": [1, 0], "b": [1, 0], "c": [1, 0]}
    )
    assert (fitted.precision, fitted.recall) == (0.75, 1.0)


@pytest.mark.parametrize(
    ("logits", "labels", "message"),
    [
        ([1.0, 2.0], [0, 0], "found 0 relevant of 2"),
        ([1.0, 2.0], [1, 1], "found 2 relevant of 2"),
        ([], [], "found 0 relevant of 0"),
        ([1.0, math.nan], [1, 0], "1 of 2 dev logits are not finite"),
        ([1.5, 1.5], [1, 0], "all dev logits are equal"),
        ([1.0, 2.0], [1], 'query "q" has 2 logits and 1 labels'),
    ],
)
def test_what_cannot_be_calibrated_is_refused(logits, labels, message):
    with pytest.raises(ConfigError, match=message):
        fit_calibration({"q": logits}, {"q": labels})


def test_labels_without_logits_are_refused():
    with pytest.raises(ConfigError, match='query "r" has 0 logits and 1 labels'):
        fit_calibration({"q": [1.0, 2.0]}, {"q": [1, 0], "r": [1]})


def test_expected_calibration_error_by_hand():
    # Bin 0.9-1.0: 0.9 and 1.0, one relevant: |0.95 - 0.5| x 2/4. Bin 0.2-0.3: 0.2 and 0.2, none: 0.2 x 2/4.
    assert expected_calibration_error([0.9, 1.0, 0.2, 0.2], [1, 0, 0, 0]) == pytest.approx(0.325)
    assert expected_calibration_error([1.0, 0.0], [1, 0]) == 0


def test_expected_calibration_error_of_nothing_is_refused():
    with pytest.raises(ConfigError, match="0 probabilities"):
        expected_calibration_error([], [])
