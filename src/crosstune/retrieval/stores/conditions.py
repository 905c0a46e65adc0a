"""Conditions on metadata: what they mean, and how they are evaluated in memory.

The meaning is that of Redis. A passage without the field is found by "!=" only. Tags are compared exactly, case and
accents count, blanks at the ends do not. A value of a numeric field that is not a number counts as missing.
"""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from crosstune.errors import ConfigError
from crosstune.types import Condition, Passage

TAG_SEPARATOR = "\x1f"
"""Parts one tag from the next in Redis; text holds no such character ("unit separator" of ASCII)."""

# Redis indexes no tag of more than 4,096 bytes.
_TAG_CHARACTERS = 1000
_NOT_IN_TAGS = re.compile(f"[\0{TAG_SEPARATOR}]")
_NUMBER = re.compile(r"\s*[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?\s*", re.ASCII)
_ORDERINGS = {"<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge}


def as_tag(value: str) -> str:
    """The form in which tags are compared: no blanks at the ends, and at most the first 1,000 characters."""
    return _NOT_IN_TAGS.sub(" ", value).strip()[:_TAG_CHARACTERS].rstrip()


def as_number(value: str) -> float | None:
    """The number that a text is; None for any other text."""
    if not _NUMBER.fullmatch(value):
        return None
    number = float(value)
    return number if math.isfinite(number) else None


def check_conditions(where: Sequence[Condition], fields: Mapping[str, str]) -> None:
    """Refuse conditions that cannot be evaluated.

    Args:
        where: What was asked for.
        fields: `IndexSpec.fields`.

    Raises:
        ConfigError: An unknown field or operator, an order among tags, no value, or no number for a numeric field.
    """
    for condition in where:
        kind = fields.get(condition.field)
        if kind is None:
            known = ", ".join(fields) or "none: no metadata field was named when it was made"
            raise ConfigError(f"the index cannot be searched by {condition.field!r}; its fields are {known}")
        allowed = ("=", "!=", *_ORDERINGS) if kind == "numeric" else ("=", "!=")
        if condition.operator not in allowed:
            raise ConfigError(
                f"{condition.field!r} is a {kind} field, which {condition.operator!r} cannot be asked of; "
                f"expected {' '.join(allowed)}"
            )
        n_values = len(condition.values)
        if n_values == 0 or (n_values > 1 and condition.operator in _ORDERINGS):
            raise ConfigError(f"{condition.field!r} {condition.operator} needs one value, found {n_values}")
        if kind == "numeric" and any(as_number(value) is None for value in condition.values):
            raise ConfigError(f"{condition.field!r} is a numeric field; {condition.values!r} holds no number")


def matching(passages: Iterable[Passage], where: Sequence[Condition], fields: Mapping[str, str]) -> Iterator[Passage]:
    """The passages whose metadata meets all conditions.

    Args:
        passages: Read once.
        where: Conditions.
        fields: `IndexSpec.fields`.

    Raises:
        ConfigError: A condition cannot be evaluated.
    """
    check_conditions(where, fields)
    for passage in passages:
        if all(meets(passage.metadata.get(one.field), one, fields[one.field]) for one in where):
            yield passage


def meets(value: str | None, condition: Condition, kind: str) -> bool:
    """Whether a value of a "tag" or "numeric" field, None where there is none, meets a condition on it."""
    if kind == "tag":
        found = value is not None and as_tag(value) in map(as_tag, condition.values)
        return found != (condition.operator == "!=")
    number = None if value is None else as_number(value)
    wanted = [float(one) for one in condition.values]
    if condition.operator in _ORDERINGS:
        return number is not None and _ORDERINGS[condition.operator](number, wanted[0])
    return (number in wanted) != (condition.operator == "!=")


class Column:
    """The values of one field, each different one judged once.

    Args:
        values: One for each passage; None where it has no such field.
        kind: "tag" or "numeric".
    """

    def __init__(self, values: Sequence[str | None], kind: str) -> None:
        codes: dict[str | None, int] = {}
        self._codes = np.array([codes.setdefault(value, len(codes)) for value in values], dtype=np.int64)
        self._values = list(codes)
        self._kind = kind

    def meets(self, condition: Condition) -> NDArray[np.bool_]:
        """(passages,) whether the condition holds."""
        judged = np.array([meets(value, condition, self._kind) for value in self._values], dtype=np.bool_)
        return judged[self._codes]
