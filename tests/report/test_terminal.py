import math

from crosstune.report import text_table
from crosstune.report.figures import seconds
from crosstune.types import Estimate, EvalReport, TableRow


def test_table_is_aligned_with_intervals_and_comparisons(report):
    # The deepest recall is shown: R@50 and not R@5.
    assert text_table(report.evaluation) == (
        "ranking  nDCG@10    95% interval  RR@10  Success@1   R@50      n\n"
        "bm25       0.612  0.580 to 0.640  0.400      0.400  0.400  1,200\n"
        "tuned      0.664  0.630 to 0.690  0.400      0.400  0.400  1,200\n"
        "ceiling    0.900  0.880 to 0.920  0.400      0.400  0.400  1,200\n"
        "\n"
        "tuned vs bm25: nDCG@10 +0.051 (95% interval +0.012 to +0.090), p < 0.001 (Holm), d 0.310, "
        "300 wins / 800 ties / 100 losses"
    )


def test_an_interval_that_does_not_exist_is_said(report):
    row = TableRow("tuned", {"nDCG@10": Estimate(0.5, math.nan, math.nan, 3)})
    text = text_table(EvalReport((row,), (), {}))
    assert text == "ranking  nDCG@10  95% interval  n\ntuned      0.500           n/a  3"


def test_durations():
    assert [seconds(s) for s in (0.04, 59.94, 59.96, 185.2, 3599.7, 3725)] == [
        "0.0 s",
        "59.9 s",
        "1 min 00 s",
        "3 min 05 s",
        "1 h 00 min",
        "1 h 02 min",
    ]
