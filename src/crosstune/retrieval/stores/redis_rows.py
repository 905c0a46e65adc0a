"""A passage as a Redis hash."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from crosstune.lexical import Cut
from crosstune.retrieval.stores.conditions import as_number, as_tag
from crosstune.types import Origin, Passage

PARTS = ("text", "title", "document", "position", "start", "end", "_metadata")
"""Fields that a passage is read from."""

_OF_ORIGIN = ("document", "position", "start", "end")


def fields_of(passage: Passage, digest: str, searched: Mapping[str, str], cut: Cut) -> dict[str, str]:
    """All fields but the vector.

    Args:
        passage: What is written.
        digest: Of it.
        searched: Metadata field -> type in the schema. What a number should be and is not would keep Redis from
            indexing the passage at all; it is left out.
        cut: Text to the terms of text search.
    """
    fields = {
        "text": passage.text,
        "title": passage.title,
        "_terms": " ".join(cut(passage.full_text)),
        "digest": digest,
        "_metadata": json.dumps(dict(passage.metadata), ensure_ascii=False),
    }
    if passage.origin:
        origin = passage.origin
        parts = (origin.document_id, str(origin.position), str(origin.start), str(origin.end))
        fields |= dict(zip(_OF_ORIGIN, parts, strict=True))
    for name, kind in searched.items():
        value = _searchable(passage.metadata.get(name), kind)
        if value is not None:
            fields[name] = value
    return fields


def absent(fields: Mapping[str, str], searched: Mapping[str, str]) -> list[str]:
    """Fields that the hash may still hold from before, and that the passage has no more."""
    return [name for name in (*_OF_ORIGIN, *searched) if name not in fields]


def passage_of(passage_id: str, parts: Sequence[str | None]) -> Passage | None:
    """The passage whose PARTS these are; None where there is none."""
    text, title, document, position, start, end, metadata = parts
    if text is None:
        return None
    origin = None if document is None else Origin(document, int(position or 0), int(start or 0), int(end or 0))
    return Passage(passage_id, text, title or "", json.loads(metadata or "{}"), origin)


def _searchable(value: str | None, kind: str) -> str | None:
    if value is None:
        return None
    if kind == "numeric":
        number = as_number(value)
        return None if number is None else repr(number)
    return as_tag(value) if kind == "tag" else value
