"""From logits to probabilities that mean something, and the point under which nothing answers the question.

Both are fitted on dev questions with the candidates of the first stage, so a probability is the chance that a
passage proposed by that first stage is relevant.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import minimize
from scipy.special import expit

from crosstune.errors import ConfigError
from crosstune.types import Calibration

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]

# Bounds of the slope for logits scaled to standard deviation 1: the order may neither turn round nor vanish,
# even for a model that ranks worse than chance.
_SLOPE_BOUNDS = (1e-3, 1e3)


def fit_calibration(
    logits_by_query: Mapping[str, Sequence[float]], labels_by_query: Mapping[str, Sequence[int]]
) -> Calibration:
    """Fit temperature, bias and no-answer threshold on dev questions.

    Temperature and bias minimise the log loss over all pairs, with Platt's targets (1999): (n1 + 1) /
    (n1 + 2) in place of 1 and 1 / (n0 + 2) in place of 0, for n1 relevant and n0 other pairs. On data that a
    threshold separates the loss would otherwise fall for ever as the temperature nears 0; with many pairs it
    is the plain log loss.

    For the threshold each question makes up to two cases. With all its candidates it is answerable if one of
    them is relevant; with the relevant ones taken away the same question is unanswerable. "The best
    probability is at least the threshold" should say which; the threshold with the highest balanced accuracy
    is taken, and of equals the highest, since a wrong answer does more harm than none. Its precision and
    recall are those of "answerable".

    Args:
        logits_by_query: query_id -> logits of its candidates.
        labels_by_query: query_id -> 1 (or any positive grade) for relevant, 0 for not, in the same order.

    Raises:
        ConfigError: The two do not match, logits are not finite or all equal, or all labels are of one class.
    """
    _check_shapes(logits_by_query, labels_by_query)
    logits = [np.asarray(values, dtype=np.float64) for values in logits_by_query.values()]
    relevant = [np.asarray(labels_by_query[query_id]) > 0 for query_id in logits_by_query]
    temperature, bias = _fit_scale(np.concatenate(logits), np.concatenate(relevant))
    answerable, unanswerable = _cases([expit(z / temperature + bias) for z in logits], relevant)
    threshold = _best_threshold(answerable, unanswerable)
    n_kept, n_wrong = int((answerable >= threshold).sum()), int((unanswerable >= threshold).sum())
    return Calibration(
        temperature=temperature,
        bias=bias,
        threshold=threshold,
        precision=n_kept / (n_kept + n_wrong),
        recall=n_kept / len(answerable),
        n=len(answerable) + len(unanswerable),
    )


def expected_calibration_error(probabilities: ArrayLike, labels: ArrayLike, n_bins: int = 10) -> float:
    """Mean distance between probability and observed share of relevant, over bins of equal width by size.

    Raises:
        ConfigError: There are no pairs, or the lengths differ.
    """
    p = np.asarray(probabilities, dtype=np.float64)
    relevant = (np.asarray(labels) > 0).astype(np.float64)
    if len(p) != len(relevant) or not len(p):
        raise ConfigError(f"{len(p)} probabilities and {len(relevant)} labels; give one label for each, at least one")
    index = np.minimum((p * n_bins).astype(int), n_bins - 1)
    gap = np.bincount(index, weights=p, minlength=n_bins) - np.bincount(index, weights=relevant, minlength=n_bins)
    return float(np.abs(gap).sum() / len(p))


def _check_shapes(logits: Mapping[str, Sequence[float]], labels: Mapping[str, Sequence[int]]) -> None:
    for query_id in {*logits, *labels}:
        n_logits, n_labels = len(logits.get(query_id, ())), len(labels.get(query_id, ()))
        if n_logits != n_labels:
            raise ConfigError(f'query "{query_id}" has {n_logits} logits and {n_labels} labels; give one label each')


def _fit_scale(logits: FloatArray, relevant: BoolArray) -> tuple[float, float]:
    """Temperature and bias with the least log loss."""
    mean, sd = _location_and_scale(logits, relevant)
    x = (logits - mean) / sd
    n1, n0 = int(relevant.sum()), int((~relevant).sum())
    target = np.where(relevant, (n1 + 1) / (n1 + 2), 1 / (n0 + 2))

    def loss_and_gradient(parameters: FloatArray) -> tuple[float, FloatArray]:
        z = parameters[0] * x + parameters[1]
        error = expit(z) - target
        return float(np.mean(np.logaddexp(0, z) - target * z)), np.array([np.mean(error * x), np.mean(error)])

    # Convex in slope and intercept, so there is one optimum and the start only costs time.
    start = np.array([1.0, np.log((n1 + 1) / (n0 + 1))])
    fit = minimize(
        loss_and_gradient,
        start,
        jac=True,
        method="L-BFGS-B",
        bounds=[_SLOPE_BOUNDS, (None, None)],
        options={"ftol": 1e-15, "gtol": 1e-9, "maxiter": 1000},
    )
    slope, intercept = fit.x
    return float(sd / slope), float(intercept - slope * mean / sd)


def _location_and_scale(logits: FloatArray, relevant: BoolArray) -> tuple[float, float]:
    if not len(logits) or relevant.all() or not relevant.any():
        raise ConfigError(
            "calibration needs relevant and other passages among the dev candidates, found "
            f"{int(relevant.sum())} relevant of {len(logits)}; give more dev questions or a deeper first "
            "stage"
        )
    if not np.isfinite(logits).all():
        raise ConfigError(f"{int((~np.isfinite(logits)).sum())} of {len(logits)} dev logits are not finite numbers")
    sd = float(logits.std())
    if sd < 1e-9:
        raise ConfigError("all dev logits are equal: the model has collapsed, and no scale can be fitted to it")
    return float(logits.mean()), sd


def _cases(probabilities: Sequence[FloatArray], relevant: Sequence[BoolArray]) -> tuple[FloatArray, FloatArray]:
    """Best probabilities of the answerable and of the unanswerable cases; neither is empty for two
    classes."""
    answerable = [p.max() for p, is_relevant in zip(probabilities, relevant, strict=True) if is_relevant.any()]
    unanswerable = [
        p[~is_relevant].max() for p, is_relevant in zip(probabilities, relevant, strict=True) if not is_relevant.all()
    ]
    return np.array(answerable), np.array(unanswerable)


def _best_threshold(answerable: FloatArray, unanswerable: FloatArray) -> float:
    answerable, unanswerable = np.sort(answerable), np.sort(unanswerable)
    distinct = np.unique(np.concatenate([answerable, unanswerable]))
    # Half way between neighbours, so that the decision does not hang on one dev question's exact value.
    thresholds = np.concatenate([distinct[:1], (distinct[:-1] + distinct[1:]) / 2])
    recall = 1 - np.searchsorted(answerable, thresholds, side="left") / len(answerable)
    specificity = np.searchsorted(unanswerable, thresholds, side="left") / len(unanswerable)
    balanced = np.round((recall + specificity) / 2, 12)
    return float(thresholds[np.flatnonzero(balanced == balanced.max())[-1]])
