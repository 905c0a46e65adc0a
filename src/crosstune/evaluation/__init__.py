"""Judgments and rankings to figures with intervals, a verdict, a score scale, and signs of failure.

Nothing here knows what a model is: rankings come in as runs, scores as numbers.
"""

from crosstune.evaluation.calibrate import expected_calibration_error, fit_calibration
from crosstune.evaluation.evaluate import ceiling, evaluate
from crosstune.evaluation.health import check_losses, check_scores, check_truncation, fresh_head
from crosstune.evaluation.measures import HEADLINE, headline_mean, measures_for, per_query
from crosstune.evaluation.statistics import compare, estimate, holm, smallest_detectable_gain
from crosstune.evaluation.verdict import best_row, verdict, verdict_sentence

__all__ = [
    "HEADLINE",
    "best_row",
    "ceiling",
    "check_losses",
    "check_scores",
    "check_truncation",
    "compare",
    "estimate",
    "evaluate",
    "expected_calibration_error",
    "fit_calibration",
    "fresh_head",
    "headline_mean",
    "holm",
    "measures_for",
    "per_query",
    "smallest_detectable_gain",
    "verdict",
    "verdict_sentence",
]
