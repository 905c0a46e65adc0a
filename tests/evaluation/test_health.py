import math

import numpy as np
import pytest

from crosstune.errors import ConfigError
from crosstune.evaluation import check_losses, check_scores, check_truncation, fresh_head

LN_2 = math.log(2)


def codes(findings):
    return [finding.code for finding in findings]


def scores(make_row, n=40):
    rng = np.random.default_rng(6)
    return {f"q{index}": make_row(rng) for index in range(n)}


def test_a_healthy_reranker_has_no_findings():
    # Like bge-reranker-base: most candidates near -8, one near 6.
    healthy = scores(lambda rng: [6 + rng.normal(), *rng.normal(-8, 2, size=19)])
    assert check_scores(healthy) == ()


def test_a_timid_but_discerning_model_has_no_findings():
    assert check_scores(scores(lambda rng: list(rng.normal(0, 0.05, size=20)))) == ()


@pytest.mark.parametrize("noise", [0.0, 1e-6])
def test_a_collapsed_model_is_named_and_fatal(noise):
    # One score for each query, different between queries: the order within a query is what counts.
    collapsed = scores(lambda rng: list(rng.normal(0, 3) + noise * rng.normal(size=20)))
    (finding,) = check_scores(collapsed)
    assert (finding.code, finding.fatal) == ("constant-scores", True)


def test_one_query_that_discerns_does_not_hide_a_collapse():
    collapsed = scores(lambda rng: [1.0] * 10) | {"alive": [5.0, -5.0]}
    assert codes(check_scores(collapsed)) == ["constant-scores"]


def test_nearly_constant_scores_are_named():
    (finding,) = check_scores(scores(lambda rng: list(2 + rng.normal(0, 0.002, size=20))))
    assert (finding.code, finding.fatal) == ("near-constant-scores", False)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_one_bad_score_is_fatal_and_counted(bad):
    (finding,) = check_scores({"q": [1.0, 2.0, bad], "r": [0.0, 1.0]})
    assert (finding.code, finding.fatal) == ("nan-scores", True)
    assert "1 of 5 scores" in finding.message


def test_saturated_scores_are_named_with_their_share():
    # 1 of 10 logits at 30: as float32 its probability is exactly 1.
    (finding,) = check_scores(scores(lambda rng: [30.0, *rng.normal(0, 2, size=9)]))
    assert (finding.code, finding.fatal) == ("saturated-scores", False)
    assert "10.0% of the logits" in finding.message


def test_saturation_begins_where_float32_rounds_to_one():
    def sigmoid(logit):
        return np.float32(1) / (np.float32(1) + np.exp(np.float32(-logit)))

    assert sigmoid(16.7) == 1
    assert sigmoid(16.5) < 1
    assert codes(check_scores({"q": [16.7, -16.7]})) == ["saturated-scores"]
    assert codes(check_scores({"q": [16.5, -16.5]})) == []


def test_a_single_candidate_has_no_order_to_collapse():
    assert check_scores({"q": [1.0], "r": [1.0]}) == ()


@pytest.mark.parametrize("nothing", [{}, {"q": []}])
def test_no_scores_are_refused(nothing):
    with pytest.raises(ConfigError, match="no scores to check"):
        check_scores(nothing)


def falling(start, end, n=200, noise=0.05):
    return list(np.linspace(start, end, n) + noise * np.random.default_rng(8).normal(size=n))


@pytest.mark.parametrize("chance", [LN_2, math.log(6)])
def test_a_loss_that_falls_is_healthy(chance):
    assert check_losses(falling(chance, chance / 3), chance) == ()


@pytest.mark.parametrize("chance", [LN_2, math.log(6)])
def test_a_loss_stuck_at_chance_is_named_and_fatal(chance):
    (finding,) = check_losses(falling(chance, chance), chance)
    assert (finding.code, finding.fatal) == ("loss-at-chance", True)
    assert f"{chance:.3f}" in finding.message


def test_one_lucky_batch_does_not_hide_a_stuck_loss():
    losses = [LN_2] * 200
    losses[77] = 0.1
    # Its stretch of 20 has mean (19 x 0.6931 + 0.1) / 20 = 0.6635, above 0.95 x 0.6931 = 0.6585.
    assert codes(check_losses(losses, LN_2)) == ["loss-at-chance"]


def test_the_band_is_five_percent():
    assert codes(check_losses([0.951 * LN_2] * 10, LN_2)) == ["loss-at-chance"]
    assert check_losses([0.949 * LN_2] * 10, LN_2) == ()


def test_a_loss_that_stays_above_chance_has_learned_nothing_either():
    assert codes(check_losses(falling(2.0, 0.9), LN_2)) == ["loss-at-chance"]


def test_a_loss_that_fell_and_collapsed_late_is_left_to_the_scores():
    assert check_losses(falling(LN_2, 0.2) + [LN_2] * 50, LN_2) == ()


def test_a_nan_loss_is_fatal_and_says_when():
    (finding,) = check_losses([0.7, 0.6, math.nan, math.nan], LN_2)
    assert (finding.code, finding.fatal) == ("nan-loss", True)
    assert "2 times, first at value 3 of 4" in finding.message


def test_a_single_logged_loss_is_judged():
    assert check_losses([0.3], LN_2) == ()
    assert codes(check_losses([0.7], LN_2)) == ["loss-at-chance"]


def test_no_losses_are_refused():
    with pytest.raises(ConfigError, match="no training losses"):
        check_losses([], LN_2)


def test_truncation_is_reported_above_five_percent():
    assert check_truncation(0.05) == ()
    (finding,) = check_truncation(0.123)
    assert (finding.code, finding.fatal) == ("pairs-truncated", False)
    assert finding.message.startswith("12.3% of the pairs")


@pytest.mark.parametrize("share", [-0.1, 1.1, math.nan])
def test_an_impossible_share_is_refused(share):
    with pytest.raises(ConfigError, match="expected 0 to 1"):
        check_truncation(share)


def test_a_fresh_head_is_said_and_not_fatal():
    finding = fresh_head("all-MiniLM-L6-v2")
    assert (finding.code, finding.fatal) == ("fresh-head", False)
    assert "all-MiniLM-L6-v2 is a bare encoder" in finding.message
