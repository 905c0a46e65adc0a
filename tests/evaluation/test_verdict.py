import math

import pytest

from crosstune.errors import ConfigError
from crosstune.evaluation import best_row, verdict, verdict_sentence
from crosstune.types import Comparison, Estimate, EvalReport, TableRow, Verdict

UP = (0.01, 0.09)
ACROSS = (-0.02, 0.08)
DOWN = (-0.09, -0.01)
TOUCHING = (0.0, 0.1)
NONE = (math.nan, math.nan)


def report_of(**intervals):
    """Report that compares "tuned" with each named baseline, with the given interval of the difference."""
    rows = [TableRow("tuned", {"nDCG@10": Estimate(0.7123, 0.66, 0.76, 200)})]
    comparisons = []
    for name, (low, high) in intervals.items():
        mean = 0.03 if math.isnan(low) else (low + high) / 2
        rows.append(TableRow(name, {"nDCG@10": Estimate(0.7123 - mean, 0.6, 0.7, 200)}))
        delta = Estimate(mean, low, high, 200)
        comparisons.append(Comparison("nDCG@10", name, "tuned", delta, 0.01, 0.02, 0.2, 40, 140, 20))
    return EvalReport(tuple(rows), tuple(comparisons), {})


@pytest.mark.parametrize(
    ("first_stage", "base", "expected"),
    [
        (UP, UP, Verdict.BETTER),
        (UP, ACROSS, Verdict.NOT_PROVEN),
        (ACROSS, UP, Verdict.NOT_PROVEN),
        (ACROSS, ACROSS, Verdict.NOT_PROVEN),
        (UP, DOWN, Verdict.WORSE),
        (DOWN, UP, Verdict.WORSE),
        (DOWN, ACROSS, Verdict.WORSE),
        (TOUCHING, UP, Verdict.NOT_PROVEN),
        (NONE, UP, Verdict.NOT_PROVEN),
        (NONE, NONE, Verdict.NOT_PROVEN),
        (NONE, DOWN, Verdict.WORSE),
    ],
)
def test_every_baseline_has_to_be_beaten_and_none_may_win(first_stage, base, expected):
    report = report_of(bm25=first_stage, base=base)
    assert verdict(report, "tuned", ["bm25", "base"]) is expected


def test_without_a_base_reranker_the_first_stage_alone_decides():
    report = report_of(bm25=UP, dense=DOWN)
    assert verdict(report, "tuned", ["bm25"]) is Verdict.BETTER
    assert verdict(report, "tuned", ["dense"]) is Verdict.WORSE


def test_best_row_has_the_highest_mean_and_the_first_wins_a_tie():
    # A larger gain over a row means a weaker row: "across" (gain 0.03) is stronger than "up" (gain 0.05).
    report = report_of(up=UP, across=ACROSS, same=ACROSS)
    assert best_row(report, ["up", "across", "same"]) == "across"
    assert best_row(report, ["up", "same", "across"]) == "same"


def test_sentence_of_a_proven_gain_has_the_figures():
    # Half width 0.04 = 1.96 standard errors of 0.02041; 2.8016 x 0.02041 = 0.0572.
    sentence = verdict_sentence(report_of(bm25=UP), "tuned", ["bm25"])
    assert sentence == (
        "On 200 test questions tuned reaches nDCG@10 0.712, 0.050 above bm25 (95% interval +0.010 to "
        "+0.090; wins 40, ties 140, losses 20, corrected p 0.020). The smallest true gain a test set like "
        "this shows in 4 of 5 cases is 0.057. This is better."
    )


def test_sentence_says_what_could_not_have_been_seen():
    sentence = verdict_sentence(report_of(bm25=UP, base=(-0.05, 0.07)), "tuned", ["bm25", "base"])
    assert "This is not proven to be better;" in sentence
    assert "0.010 above base (95% interval -0.050 to +0.070;" in sentence
    # The widest interval decides: half width 0.06 / 1.96 x 2.8016 = 0.0858.
    assert "is 0.086." in sentence


def test_sentence_of_a_loss():
    sentence = verdict_sentence(report_of(dense=DOWN), "tuned", ["dense"])
    assert "0.050 below dense (95% interval -0.090 to -0.010;" in sentence
    assert sentence.endswith("This is worse: do not ship it.")


def test_sentence_of_too_few_groups_has_no_made_up_interval():
    sentence = verdict_sentence(report_of(bm25=NONE), "tuned", ["bm25"])
    assert "nan" not in sentence
    assert "With fewer than 6 independent groups of questions nothing can be proven." in sentence


def test_sentence_of_equal_rankings():
    delta = Estimate(0.0, 0.0, 0.0, 9)
    comparison = Comparison("nDCG@10", "bm25", "tuned", delta, 1.0, 1.0, 0.0, 0, 9, 0)
    table = (TableRow("tuned", {"nDCG@10": Estimate(0.5, 0.4, 0.6, 9)}),)
    sentence = verdict_sentence(EvalReport(table, (comparison,), {}), "tuned", ["bm25"])
    assert "not proven" in sentence
    assert "the same as bm25 on every question" in sentence


@pytest.mark.parametrize("tell", [verdict, verdict_sentence])
def test_a_verdict_without_its_comparison_is_refused(tell):
    with pytest.raises(ConfigError, match='"tuned" was not compared with "dense"'):
        tell(report_of(bm25=UP), "tuned", ["bm25", "dense"])
    with pytest.raises(ConfigError, match="at least one baseline"):
        tell(report_of(bm25=UP), "tuned", [])


def test_best_row_of_nothing_or_of_a_missing_row_is_refused():
    with pytest.raises(ConfigError, match="no rows to choose"):
        best_row(report_of(bm25=UP), [])
    with pytest.raises(ConfigError, match='row "dense" is not in the table, which has: tuned, bm25'):
        best_row(report_of(bm25=UP), ["dense"])
