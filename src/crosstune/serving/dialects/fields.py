"""Reading one field of a request. Null is the same as absent: clients send it for every option they know of."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from crosstune.serving.dialects.base import Body
from crosstune.serving.refusal import Reason, Refusal

_KINDS = {str: "text", bool: "true or false", int: "a number", float: "a number", list: "a list", dict: "an object"}


def text(body: Body, name: str) -> str:
    """A text that must be there."""
    value = body.get(name)
    if not isinstance(value, str):
        raise _wrong(name, "text", value)
    return value


def items(body: Body, name: str) -> list[Any]:
    """A list that must be there and hold something."""
    value = body.get(name)
    if not isinstance(value, list):
        raise _wrong(name, "a list", value)
    if not value:
        raise Refusal(Reason.EMPTY, f'"{name}" is empty; send at least one document')
    return value


def texts(body: Body, name: str) -> tuple[str, ...]:
    """A list of texts that must be there and hold something."""
    found = items(body, name)
    for place, value in enumerate(found):
        if not isinstance(value, str):
            raise _wrong(f"{name}[{place}]", "text", value)
    return tuple(found)


def document_text(document: Any, place: int, fields: Sequence[str]) -> str:
    """Text of a document that is a text, or an object of which these fields count."""
    if isinstance(document, str):
        return document
    if not isinstance(document, Mapping):
        raise _wrong(f"documents[{place}]", "text or an object", document)
    values = [document[field] for field in fields if document.get(field) is not None]
    if not values:
        raise Refusal(
            Reason.INVALID,
            f'documents[{place}] has none of the fields {", ".join(fields)}; send texts, objects with "text", or name '
            'the fields in "rank_fields"',
        )
    for value in values:
        if not isinstance(value, str | int | float) or isinstance(value, bool):
            raise _wrong(f"a field of documents[{place}]", "text", value)
    return " ".join(str(value) for value in values)


def names(body: Body, name: str, default: tuple[str, ...]) -> tuple[str, ...]:
    """A list of texts that may be absent or empty, which gives the default."""
    return texts(body, name) if body.get(name) else default


def flag(body: Body, name: str) -> bool:
    """True or false; false when absent."""
    value = body.get(name)
    if value is not None and not isinstance(value, bool):
        raise _wrong(name, "true or false", value)
    return bool(value)


def most(body: Body, name: str) -> int | None:
    """How many to return; None, which is all, when absent or 0."""
    value = body.get(name)
    if value is None:
        return None
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise _wrong(name, "a whole number, 0 for all", value)
    return value or None


def first_stage_scores(body: Body, n: int) -> tuple[float, ...] | None:
    """The extension field: one finite number for each of n documents, or absent."""
    name = "first_stage_scores"
    found = body.get(name)
    if found is None:
        return None
    if not isinstance(found, list) or len(found) != n:
        had = f"{len(found)}" if isinstance(found, list) else _kind(found)
        raise Refusal(
            Reason.INVALID,
            f'"{name}" must be a list of one number for each of {n} documents, found {had}; correct it or leave it out',
        )
    for place, value in enumerate(found):
        if not isinstance(value, int | float) or isinstance(value, bool) or not _finite(value):
            raise _wrong(f"{name}[{place}]", "a finite number", value)
    return tuple(float(value) for value in found)


def _finite(value: float) -> bool:
    try:
        return math.isfinite(value)
    except OverflowError:  # A whole number that no float can hold.
        return False


def _wrong(name: str, expected: str, value: Any) -> Refusal:
    """Found values are told by kind or, for numbers, as they are: never a text."""
    found = f"{value:.12g}" if isinstance(value, float) else _kind(value)
    remedy = "send it" if value is None else "correct it"
    return Refusal(Reason.INVALID, f'"{name}" must be {expected}, found {found}; {remedy}')


def _kind(value: Any) -> str:
    return "nothing" if value is None else _KINDS.get(type(value), type(value).__name__)
