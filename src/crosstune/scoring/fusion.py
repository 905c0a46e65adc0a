"""Joining the parts of a score: cross-encoder, bi-encoder, shared words, first stage."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

from crosstune.errors import ConfigError
from crosstune.types import Candidate, Part, Reading, Run, ScoreKind

Parts = Mapping[Part, NDArray[np.float64]]
"""Part -> scores (candidates,) of one question, all in the same order."""

# How much a weight costs, in units of the part's own spread, beside the loss of one question: enough to keep the
# weights of an uninformative dev set small, and too little to matter for the order when there are 50 questions.
_PENALTY = 0.3


def standardised(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    """Scores of one question's candidates with mean 0 and standard deviation 1; all 0 when they are equal."""
    spread = scores.std() if len(scores) else 0.0
    # Rounding alone can make equal scores look spread.
    if spread <= 1e-12 * max(1.0, float(np.abs(scores).max(initial=0.0))):
        return np.zeros_like(scores)
    centred: NDArray[np.float64] = (scores - scores.mean()) / spread
    return centred


def fuse(parts: Parts, weights: Mapping[Part, float]) -> NDArray[np.float64]:
    """Fused scores of one question's candidates (candidates,): the weighted sum of the parts that have a weight.

    Raises:
        ConfigError: There are no parts.
    """
    if not parts:
        raise ConfigError("there is nothing to fuse: give the scores of at least one part")
    fused = np.zeros(len(next(iter(parts.values()))))
    for part, scores in parts.items():
        if part in weights:
            fused += weights[part] * scores
    return fused


def reading_order(parts: Parts, reading: Reading, n_candidates: int) -> NDArray[np.intp]:
    """Places of one question's candidates in the order in which the cross-encoder should read them.

    Args:
        parts: Scores (candidates,) of the other parts; those that are absent are left out.
        reading: What they are worth. How many are read is up to the caller.
        n_candidates: Of the question; equals keep the order in which they are.
    """
    used = {part: scores for part, scores in parts.items() if part in reading.weights}
    worth = fuse(used, reading.weights) if used else np.zeros(n_candidates)
    return np.argsort(-worth, kind="stable")


def with_unread(logits: NDArray[np.float64], n_candidates: int) -> NDArray[np.float64]:
    """Logits (candidates,) of one question, of which the first were read: the others have the lowest of those.

    A logit that is not a number makes all the others that, so that it is not overlooked.
    """
    lowest = logits.min() if len(logits) else 0.0
    return np.concatenate([logits, np.full(n_candidates - len(logits), lowest)])


def fit_weights(
    parts_by_query: Mapping[str, Parts], relevant_by_query: Mapping[str, NDArray[np.bool_]]
) -> dict[Part, float]:
    """Weights under which the relevant candidates stand out most: a conditional logit model.

    They minimise the mean over questions of -log softmax(fused score) of the relevant candidates, with a small
    quadratic penalty, and are never negative: a part that orders candidates the wrong way round on a few dev questions
    is left out rather than turned. Smooth in the scores, it is steadier on few questions than taking the weights with
    the best nDCG@10 of a grid. Questions without both relevant and other candidates say nothing and are passed over.

    Args:
        parts_by_query: query_id -> part -> scores of its candidates; every question has the same parts.
        relevant_by_query: query_id -> (candidates,) whether each is relevant.

    Returns:
        Part -> weight, of the parts whose weight is above 0; empty when nothing helps.

    Raises:
        ConfigError: A score is not a finite number.
    """
    telling = [q for q, relevant in relevant_by_query.items() if relevant.any() and not relevant.all()]
    if not telling:
        return {}
    names = list(parts_by_query[telling[0]])
    tables = [np.stack([parts_by_query[q][name] for name in names], axis=1) for q in telling]  # (candidates, parts)
    if not all(np.isfinite(table).all() for table in tables):
        raise ConfigError("weights cannot be fitted to scores that are not finite numbers")
    spread = np.sqrt(np.mean([table.var(axis=0) for table in tables], axis=0))  # (parts,)
    spread[spread < 1e-12] = np.inf
    scaled = [(table - table.mean(axis=0)) / spread for table in tables]
    found = _fit(scaled, [relevant_by_query[q] for q in telling]) / spread
    return {name: float(weight) for name, weight in zip(names, found, strict=True) if weight > 0}


def _fit(tables: list[NDArray[np.float64]], relevant: list[NDArray[np.bool_]]) -> NDArray[np.float64]:
    """Weights (parts,) of tables (candidates, parts)."""
    n_questions, n_parts = len(tables), tables[0].shape[1]

    def loss_and_gradient(weights: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        loss = _PENALTY * float(weights @ weights)
        gradient = 2 * _PENALTY * weights
        for table, is_relevant in zip(tables, relevant, strict=True):
            scores = table @ weights
            log_total = scores.max() + np.log(np.exp(scores - scores.max()).sum())
            loss += log_total - scores[is_relevant].mean()
            gradient = gradient + np.exp(scores - log_total) @ table - table[is_relevant].mean(axis=0)
        return loss / n_questions, gradient / n_questions

    # Convex, so the start only costs time; not 0, where bounds and optimum of a useless part coincide.
    fit = minimize(loss_and_gradient, np.ones(n_parts), jac=True, method="L-BFGS-B", bounds=[(0, None)] * n_parts)
    weights: NDArray[np.float64] = fit.x
    return weights


def rerank(
    first_stage: Run, scores: Mapping[str, NDArray[np.float64]], name: str, kind: ScoreKind = ScoreKind.LOGIT
) -> Run:
    """Reorder a first stage's candidates; equal scores keep its order.

    Args:
        first_stage: The candidates.
        scores: query_id -> scores in the candidates' order.
        name: Row name of the new run.
        kind: What the scores mean.

    Raises:
        ConfigError: A query has not one score for each candidate.
    """
    reordered = {}
    for query_id, candidates in first_stage.candidates.items():
        found = scores.get(query_id, np.empty(0))
        if len(found) != len(candidates):
            raise ConfigError(f"query {query_id!r}: {len(candidates)} candidates but {len(found)} scores")
        order = np.argsort(-found, kind="stable")
        reordered[query_id] = tuple(
            Candidate(candidates[i].passage_id, float(found[i]), rank) for rank, i in enumerate(order, start=1)
        )
    return Run(name, first_stage.depth, kind, reordered)


def with_rest(reranked: Run, first_stage: Run) -> Run:
    """A ranking of some candidates, and behind them the others of the first stage in its order.

    Their scores go on downwards from the lowest in steps of 1, so that the order can be read off the scores.
    """
    joined = {}
    for query_id, candidates in first_stage.candidates.items():
        top = reranked.candidates.get(query_id, ())
        there = {candidate.passage_id for candidate in top}
        lowest = min((candidate.score for candidate in top), default=0.0)
        rest = [candidate.passage_id for candidate in candidates if candidate.passage_id not in there]
        behind = (Candidate(pid, lowest - i, len(top) + i) for i, pid in enumerate(rest, start=1))
        joined[query_id] = (*top, *behind)
    return replace(reranked, depth=first_stage.depth, candidates=joined)
