"""Rankings and judgments to the table with its comparisons."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from crosstune.errors import ConfigError
from crosstune.evaluation.measures import HEADLINE, measures_for, per_query
from crosstune.evaluation.statistics import compare, estimate, holm
from crosstune.types import Candidate, Comparison, EvalReport, Qrels, Run, TableRow

Values = dict[str, NDArray[np.float64]]


def ceiling(run: Run, qrels: Qrels, name: str) -> Run:
    """The best that any reranker could make of a run: the same candidates, the most relevant first.

    What the first stage missed stays missed. The scores are positions counted from the end, made to be read
    by `evaluate` only; the score kind is the run's for want of one that means "told by the judgments".
    """
    candidates = {}
    for query_id, given in run.candidates.items():
        relevance = qrels.get(query_id, {})
        best_first = sorted(given, key=lambda c: (-relevance.get(c.passage_id, -1), c.rank))
        candidates[query_id] = tuple(
            Candidate(candidate.passage_id, float(len(given) - index), index + 1)
            for index, candidate in enumerate(best_first)
        )
    return Run(name, run.depth, run.score_kind, candidates)


def evaluate(
    runs: Sequence[Run],
    qrels: Qrels,
    query_ids: Sequence[str],
    groups: Mapping[str, str],
    comparisons: Sequence[tuple[str, str]],
    depth: int,
    seed: int = 0,
) -> EvalReport:
    """Table of all rankings over the same questions, and paired comparisons of some of them.

    Args:
        runs: One ranking for each row, all of the same depth.
        qrels: Judgments.
        query_ids: The questions that count: all of a split with at least one relevant passage.
        groups: query_id -> group id, from the split.
        comparisons: (baseline, candidate) row names; each is compared on the headline measure, and Holm's
            correction is over all of them.
        depth: Candidates per question that every run was asked for.
        seed: Of the resampling.

    Raises:
        ConfigError: Two rows share a name, a run has another depth, a question has no group or no relevant
            passage, or a comparison names a row that is not there.
    """
    _check_rows(runs, comparisons, depth)
    group_of = _group_of(query_ids, groups)
    measures = measures_for(depth)
    values = {run.name: per_query(run, qrels, query_ids, measures) for run in runs}
    table = tuple(
        TableRow(name, {measure: estimate(of_row[measure], group_of, seed) for measure in measures})
        for name, of_row in values.items()
    )
    return EvalReport(
        table=table,
        comparisons=_family(values, comparisons, group_of, seed),
        per_query={name: _by_query(of_row, query_ids) for name, of_row in values.items()},
    )


def _family(
    values: Mapping[str, Values], pairs: Sequence[tuple[str, str]], group_of: Sequence[str], seed: int
) -> tuple[Comparison, ...]:
    family = [
        compare(
            HEADLINE,
            baseline,
            candidate,
            values[baseline][HEADLINE],
            values[candidate][HEADLINE],
            group_of,
            seed,
        )
        for baseline, candidate in pairs
    ]
    corrected = holm([comparison.p_value for comparison in family])
    return tuple(replace(comparison, p_holm=p) for comparison, p in zip(family, corrected, strict=True))


def _by_query(values: Values, query_ids: Sequence[str]) -> dict[str, dict[str, float]]:
    return {measure: dict(zip(query_ids, column.tolist(), strict=True)) for measure, column in values.items()}


def _check_rows(runs: Sequence[Run], comparisons: Sequence[tuple[str, str]], depth: int) -> None:
    names = [run.name for run in runs]
    for name in names:
        if names.count(name) > 1:
            raise ConfigError(f'two rankings are named "{name}"; every row of the table needs its own name')
    for run in runs:
        longest = max((len(candidates) for candidates in run.candidates.values()), default=0)
        if run.depth != depth or longest > depth:
            raise ConfigError(
                f'ranking "{run.name}" has depth {run.depth} and up to {longest} candidates, the table has '
                "depth "
                f"{depth}; rows can only be compared at the same depth, so rank the same number of candidates"
            )
    for name in {name for pair in comparisons for name in pair} - set(names):
        raise ConfigError(f'a comparison names the row "{name}", which is not one of: {", ".join(names)}')


def _group_of(query_ids: Sequence[str], groups: Mapping[str, str]) -> list[str]:
    missing = [query_id for query_id in query_ids if query_id not in groups]
    if missing:
        raise ConfigError(
            f'{len(missing)} evaluated queries have no group, the first is "{missing[0]}"; '
            "group ids come from the split, for every query"
        )
    return [groups[query_id] for query_id in query_ids]
