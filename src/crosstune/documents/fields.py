"""Names of metadata fields, and which of them an index can be searched by."""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Iterable, Mapping
from functools import lru_cache

from crosstune.errors import ConfigError
from crosstune.text import content_hash

RESERVED = frozenset({"text", "title", "vector", "document", "position", "start", "end", "digest", "passage_id"})
"""Names that an index uses itself."""

MAX_TAG_CHARACTERS = 256
"""Longest value of a field that can be searched by."""

# Latin letters that Unicode does not take apart into a plain letter and a mark.
_PLAIN_LETTERS = str.maketrans({"ø": "o", "ł": "l", "đ": "d", "ð": "d", "þ": "th", "æ": "ae", "œ": "oe", "ı": "i"})
_CLEAN = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
# JSON's grammar of numbers: "007", "+49" and "1_000" are codes, not amounts.
_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?")
# Indexes hold numbers as doubles; above this size two whole numbers can become the same one.
_MAX_NUMBER = 2.0**53


@lru_cache(maxsize=4096)
def field_name(name: str) -> str:
    """The name of a column as the name of a metadata field, of `[a-z0-9_]` and not beginning with a digit.

    Lower case without marks, every run of other characters an underscore; names that an index uses itself
    begin with "meta_", those that begin with a digit with "_". A name with letters that are not Latin becomes
    "field_" and eight digits of its hash. A clean name stays as it is.

    >>> [field_name(name) for name in ("Product Line", "Größe (cm)", "text", "2024")]
    ['product_line', 'grosse_cm', 'meta_text', '_2024']
    """
    folded = unicodedata.normalize("NFKD", name.casefold()).translate(_PLAIN_LETTERS)
    letters = "".join(c for c in folded if not unicodedata.combining(c))
    cleaned = re.sub("[^a-z0-9]+", "_", letters.casefold()).strip("_")
    if not cleaned or any(c.isalnum() and not c.isascii() for c in letters):
        return f"field_{content_hash(' '.join(folded.split()))[:8]}"
    if cleaned[0].isdigit():
        return f"_{cleaned}"
    return f"meta_{cleaned}" if cleaned in RESERVED else cleaned


def infer_fields(metadata: Iterable[Mapping[str, str]]) -> dict[str, str]:
    """Metadata fields that an index can be searched by: name -> "numeric" or "tag", in the order first seen.

    A field is numeric when every value is a number as JSON writes it, below 2**53 in size: article numbers
    such as "00123" stay tags. A field with a value of more than 256 characters is left out. Passages that lack
    a field do not count.

    Args:
        metadata: One mapping for each document or passage; read once.

    Raises:
        ConfigError: A name is not clean.
    """
    numeric: dict[str, bool] = {}
    too_long: set[str] = set()
    for mapping in metadata:
        for name, value in mapping.items():
            if name not in numeric:
                _require_clean(name)
            numeric[name] = numeric.get(name, True) and _is_number(value)
            if len(value) > MAX_TAG_CHARACTERS:
                too_long.add(name)
    return {name: "numeric" if numeric[name] else "tag" for name in numeric if name not in too_long}


def _require_clean(name: str) -> None:
    if not _CLEAN.fullmatch(name) or name in RESERVED:
        raise ConfigError(
            f"{name!r} cannot be the name of a metadata field: expected a letter or underscore, then letters, "
            f"digits and underscores, and none of {', '.join(sorted(RESERVED))}; {field_name(name)!r} would do"
        )


def _is_number(value: str) -> bool:
    return _NUMBER.fullmatch(value) is not None and math.fabs(float(value)) < _MAX_NUMBER
