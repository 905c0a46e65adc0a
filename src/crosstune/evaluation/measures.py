"""How good each query's ranking is, in the field's measures.

The values are trec_eval's, computed through ir_measures. What is added here is what those tools leave to the
caller: ties are broken against us, a query without a ranking scores 0, and a question nobody judged is
    refused.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import ir_measures
import numpy as np
from numpy.typing import NDArray

from crosstune.errors import ConfigError
from crosstune.types import Candidate, Qrels, Run

HEADLINE = "nDCG@10"
"""The measure that decides: linear gain, the ideal ranking taken from the judgments."""

_UNJUDGED = -1


def measures_for(depth: int) -> tuple[str, ...]:
    """Names of the measures of a table over rankings of `depth` candidates, the headline first."""
    names = (HEADLINE, "RR@10", "AP", "Success@1", "R@5", f"R@{depth}", "Judged@10")
    return tuple(dict.fromkeys(names))


def per_query(
    run: Run, qrels: Qrels, query_ids: Sequence[str], measures: Sequence[str]
) -> dict[str, NDArray[np.float64]]:
    """Value of each measure for each query.

    A query that is missing from the run, or has no candidates there, scores 0 in every measure. Candidates
    with equal scores are ordered worst case: unjudged, then not relevant, then by rising relevance. A NaN has
    no place in an order, so all candidates of a query with a NaN count as equal.

    Returns:
        measure -> values in the order of `query_ids`.

    Raises:
        ConfigError: A measure is not known, a query has no relevant passage (its value would mean nothing),
            or the run lists one passage twice for a query.
    """
    _require_relevant(qrels, query_ids)
    parsed = {_parse(name): name for name in measures}
    judged = {query_id: qrels[query_id] for query_id in query_ids}
    ranked = {
        query_id: _strictly_decreasing(worst_case_order(run, query_id, judged[query_id]))
        for query_id in query_ids
        if run.candidates.get(query_id)
    }
    position = {query_id: index for index, query_id in enumerate(query_ids)}
    values = {name: np.zeros(len(query_ids)) for name in measures}
    # Without a single ranking there is nothing to hand over, and every value stays 0.
    for result in ir_measures.iter_calc(list(parsed), judged, ranked) if ranked else ():
        if result.query_id in position:
            values[parsed[result.measure]][position[result.query_id]] = result.value
    return values


def worst_case_order(run: Run, query_id: str, relevance: dict[str, int]) -> list[str]:
    """Passage ids of one query by falling score, equal scores with the most relevant passage last.

    Raises:
        ConfigError: A passage is listed twice.
    """
    candidates = run.candidates[query_id]
    if len({candidate.passage_id for candidate in candidates}) < len(candidates):
        raise ConfigError(
            f'ranking "{run.name}", query "{query_id}": a passage is listed more than once; '
            "keep each passage once, with its best score"
        )
    has_nan = any(math.isnan(candidate.score) for candidate in candidates)

    def key(candidate: Candidate) -> tuple[float, int, str]:
        score = 0.0 if has_nan else candidate.score
        return (-score, relevance.get(candidate.passage_id, _UNJUDGED), candidate.passage_id)

    return [candidate.passage_id for candidate in sorted(candidates, key=key)]


def _strictly_decreasing(passage_ids: list[str]) -> dict[str, float]:
    # trec_eval and ir_measures each break ties in their own way; whole numbers leave them none to break.
    return {passage_id: float(len(passage_ids) - rank) for rank, passage_id in enumerate(passage_ids)}


def _parse(name: str) -> ir_measures.Measure:
    try:
        return ir_measures.parse_measure(name)
    except (NameError, ValueError, SyntaxError, AttributeError) as error:
        raise ConfigError(f'measure "{name}" is not known; use a name such as nDCG@10, RR@10 or R@50') from error


def _require_relevant(qrels: Qrels, query_ids: Sequence[str]) -> None:
    if len(set(query_ids)) < len(query_ids):
        raise ConfigError("a query is listed more than once for evaluation; list each query once")
    without = [query_id for query_id in query_ids if not any(r > 0 for r in qrels.get(query_id, {}).values())]
    if without:
        raise ConfigError(
            f"{len(without)} of {len(query_ids)} queries have no relevant passage and can't be scored, "
            f'the first is "{without[0]}"; leave them out of the evaluated queries and report their number'
        )


def headline_mean(run: Run, qrels: Qrels, query_ids: Sequence[str]) -> float:
    """Mean of the measure that decides over these questions; a question that the run lacks scores 0."""
    return float(np.mean(per_query(run, qrels, query_ids, (HEADLINE,))[HEADLINE]))
