"""Which column of a table is what."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from crosstune.documents.fields import field_name
from crosstune.errors import DataError

# Earlier names win over later ones; the others become metadata.
TEXT_NAMES = ("text", "passage", "content", "answer", "document", "body")
_TITLE_NAMES = ("title", "heading", "name")
_ID_NAMES = ("id", "passageid", "docid", "documentid")
_QUESTION_NAMES = ("question", "query", "q")


@dataclass(frozen=True, slots=True)
class Columns:
    """Names of columns by role.

    Attributes:
        text, title, row_id: None where there is no such column.
        metadata: Every other column and the name of its metadata field. The question that an answer belongs to is
            the field "question": an index of answers is what a reranker is tuned on.
    """

    text: str | None
    title: str | None
    row_id: str | None
    metadata: tuple[tuple[str, str], ...]


def has_text_column(names: Sequence[str], text_column: str | None) -> bool:
    """Whether a header can be one: it has a column of texts."""
    return _find(names, TEXT_NAMES if text_column is None else (_key(text_column),)) is not None


@lru_cache(maxsize=256)
def find_columns(names: tuple[str, ...], text_column: str | None, path: Path) -> Columns:
    """Give every column its role; case, blanks and punctuation of names do not count.

    Args:
        text_column: Name of the column of texts; None for one of `TEXT_NAMES`.

    Raises:
        DataError: Two columns would be the same metadata field.
    """
    text = _find(names, TEXT_NAMES if text_column is None else (_key(text_column),))
    others = [name for name in names if name != text]
    title = _find(others, _TITLE_NAMES)
    row_id = _find(others, _ID_NAMES)
    question = _find(others, _QUESTION_NAMES)
    fields: dict[str, str] = {}
    for name in others:
        if name in (title, row_id):
            continue
        field = "question" if name == question else field_name(name)
        if field in fields:
            raise DataError(f"columns {fields[field]!r} and {name!r} are both the field {field}; rename one", path)
        fields[field] = name
    return Columns(text, title, row_id, tuple((name, field) for field, name in fields.items()))


def _find(names: Iterable[str], wanted: Sequence[str]) -> str | None:
    by_key = {_key(name): name for name in reversed(list(names))}
    return next((by_key[key] for key in wanted if key in by_key), None)


def _key(name: str) -> str:
    return "".join(c for c in name.casefold() if c.isalnum())
