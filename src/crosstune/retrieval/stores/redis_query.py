"""Conditions and words in RediSearch's query language (dialect 2).

All values are passed as parameters, so that no character of theirs can be read as part of the query.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from crosstune.retrieval.stores.conditions import as_number, as_tag
from crosstune.types import Condition

Parameters = dict[str, "str | int | bytes"]

_RANGES = {"<": "[-inf ({}]", "<=": "[-inf {}]", ">": "[({} +inf]", ">=": "[{} +inf]"}


def filter_of(where: Sequence[Condition], fields: Mapping[str, str]) -> tuple[str, Parameters]:
    """A query that finds what meets all conditions, and its parameters; "*" without conditions.

    Args:
        where: Conditions that `check_conditions` has let pass.
        fields: `IndexSpec.fields`.
    """
    parameters: Parameters = {}
    clauses = []
    for condition in where:
        numeric = fields[condition.field] == "numeric"
        names = []
        for value in condition.values:
            names.append(f"w{len(parameters)}")
            parameters[names[-1]] = repr(as_number(value)) if numeric else as_tag(value)
        clauses.append(_clause(condition, names, numeric))
    return (" ".join(clauses) or "*"), parameters


def words_of(terms: Iterable[str], field: str = "_terms") -> tuple[str, Parameters]:
    """A query that finds what holds any of the terms in a field, each counted once, and its parameters."""
    parameters: Parameters = {f"t{place}": term for place, term in enumerate(dict.fromkeys(terms))}
    return f"@{field}:({'|'.join(f'${name}' for name in parameters)})", parameters


def _clause(condition: Condition, names: Sequence[str], numeric: bool) -> str:
    field = f"@{condition.field}"
    marks = [f"${name}" for name in names]
    if condition.operator in _RANGES:
        return f"({field}:{_RANGES[condition.operator].format(marks[0])})"
    ranges = " | ".join(f"{field}:[{mark} {mark}]" for mark in marks)
    any_of = ranges if numeric else f"{field}:{{{' | '.join(marks)}}}"
    return f"(-({any_of}))" if condition.operator == "!=" else f"({any_of})"
