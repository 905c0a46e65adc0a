"""What an index that another program made holds: which fields are text, title, vector and metadata."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from crosstune.errors import StoreError
from crosstune.extras import require
from crosstune.retrieval.stores.location import RedisPlace

TEXT_NAMES = ("text", "content", "passage", "body", "chunk", "page_content", "answer")
"""What text fields are called, the likeliest first."""
VECTOR_NAMES = ("vector", "embedding", "content_vector", "text_vector", "vectors", "embeddings")
"""What vector fields are called, the likeliest first."""
_TITLE = "title"
_METADATA = ("tag", "numeric")
_DATATYPES = ("float16", "float32", "float64")
_METRICS = ("cosine", "ip", "l2")
# Names that conditions can hold.
_WORD = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


@dataclass(frozen=True, slots=True)
class ForeignField:
    """A field of the index, or one that is only in the documents.

    Attributes:
        name: In queries.
        source: Field of the hash, or path in the JSON.
        kind: "text", "tag", "numeric", "vector", ...; "unindexed" where it cannot be searched.
        attributes: As RedisVL calls them.
    """

    name: str
    source: str
    kind: str
    attributes: Mapping[str, Any]

    @property
    def in_query(self) -> str:
        """The name as a query must hold it."""
        return re.sub(r"(\W)", r"\\\1", self.name)


@dataclass(frozen=True, slots=True)
class ForeignSchema:
    """How an index is read.

    Attributes:
        index: Its name.
        storage: "hash" or "json".
        prefixes: Of the keys.
        text, title, vector: Fields; the title is None where there is none.
        metadata: Tags and numbers.
    """

    index: str
    storage: str
    prefixes: tuple[str, ...]
    text: ForeignField
    title: ForeignField | None
    vector: ForeignField
    metadata: tuple[ForeignField, ...]

    @property
    def dimensions(self) -> int:
        """Of a vector."""
        return int(self.vector.attributes["dims"])

    @property
    def datatype(self) -> np.dtype[np.floating]:
        """Of a vector's numbers."""
        datatype: np.dtype[np.floating] = np.dtype(self.vector.attributes["datatype"])
        return datatype

    @property
    def metric(self) -> str:
        """How vectors are compared: "cosine", "ip" or "l2"."""
        return str(self.vector.attributes["distance_metric"])

    @property
    def is_graph(self) -> bool:
        """Whether vectors are searched in an HNSW graph."""
        return str(self.vector.attributes["algorithm"]) == "hnsw"

    @property
    def searchable(self) -> dict[str, str]:
        """Metadata that passages can be searched by: name -> "tag" or "numeric"."""
        return {f.name: f.kind for f in self.metadata if _WORD.fullmatch(f.name)}


def read_foreign_schema(info: Mapping[str, Any], place: RedisPlace) -> ForeignSchema:
    """Find the fields of an index.

    Args:
        info: FT.INFO.
        place: With the names that the user chose.

    Raises:
        StoreError: A field is missing, can be one of several, or is of a kind that cannot be read.
    """
    redisvl = require("redisvl.redis.connection", extra="redis", what="an index in Redis")
    try:
        content = redisvl.convert_index_info_to_schema(info)
    except (LookupError, ValueError, TypeError) as error:
        raise StoreError(f"RedisVL cannot read the schema of the index at {place.location}: {error}") from error
    index = content["index"]
    fields = list(_fields(info, content["fields"], place))
    vector = _vector(fields, place)
    text = _text(fields, index["storage_type"], place)
    title = _title(fields, index["storage_type"], text, place)
    used = {one.source for one in (vector, text, title) if one is not None}
    prefixes = [index["prefix"]] if isinstance(index["prefix"], str) else index["prefix"]
    return ForeignSchema(
        index["name"], index["storage_type"], tuple(prefixes), text, title, vector,
        tuple(one for one in fields if one.kind in _METADATA and one.source not in used),
    )  # fmt: skip


def _fields(info: Mapping[str, Any], found: Sequence[Mapping[str, Any]], place: RedisPlace) -> Iterator[ForeignField]:
    rows = info["attributes"]
    if len(rows) != len(found):
        raise StoreError(f"Redis at {place.location} does not tell what its vectors are; use Redis 7.4 or newer")
    for row, field in zip(rows, found, strict=True):
        # RedisVL leaves out the name that a hash field has in queries.
        names = dict(zip(row[:4:2], row[1:4:2], strict=True))
        kind = "unindexed" if field["attrs"].get("no_index") else field["type"]
        yield ForeignField(names["attribute"], names["identifier"], kind, field["attrs"])


def _vector(fields: Sequence[ForeignField], place: RedisPlace) -> ForeignField:
    vectors = [one for one in fields if one.kind == "vector"]
    found = _named(vectors, [place.fields.vector] if place.fields.vector else VECTOR_NAMES)
    if found is None and len(vectors) == 1 and not place.fields.vector:
        found = vectors[0]
    if found is None:
        raise _not_chosen(place, "vector", place.fields.vector, vectors)
    attributes = found.attributes
    if attributes["datatype"] not in _DATATYPES or attributes["distance_metric"] not in _METRICS:
        raise StoreError(
            f"vectors of the index at {place.location} are {attributes['datatype']}, compared by "
            f"{attributes['distance_metric']}; expected {', '.join(_DATATYPES)}, compared by {', '.join(_METRICS)}"
        )
    return found


def _text(fields: Sequence[ForeignField], storage: str, place: RedisPlace) -> ForeignField:
    if place.fields.text:
        return _chosen(fields, storage, place.fields.text, "text", place)
    texts = [one for one in fields if one.kind == "text"]
    found = _named(texts, TEXT_NAMES)
    if found is None and len(texts) == 1:
        found = texts[0]
    if found is None:
        raise _not_chosen(place, "text", "", texts)
    return found


def _title(
    fields: Sequence[ForeignField], storage: str, text: ForeignField, place: RedisPlace
) -> ForeignField | None:  # fmt: skip
    if place.fields.title:
        return _chosen(fields, storage, place.fields.title, "title", place)
    return _named([one for one in fields if one.kind == "text" and one.source != text.source], [_TITLE])


def _chosen(fields: Sequence[ForeignField], storage: str, name: str, what: str, place: RedisPlace) -> ForeignField:
    """The field of that name; one that is not indexed is read from the documents."""
    found = _named(fields, [name])
    if found is not None and found.kind == "vector":
        raise StoreError(f"the field {name!r} of the index at {place.location} holds vectors, and no {what}")
    path = name if storage == "hash" or name.startswith("$") else f"$.{name}"
    return found or ForeignField(name, path, "unindexed", {})


def _named(fields: Sequence[ForeignField], names: Sequence[str]) -> ForeignField | None:
    by_name = {one.source: one for one in fields} | {one.name: one for one in fields}
    return next((by_name[name] for name in names if name in by_name), None)


def _not_chosen(place: RedisPlace, what: str, name: str, candidates: Sequence[ForeignField]) -> StoreError:
    listed = ", ".join(one.name for one in candidates)
    if name:
        return StoreError(f"the index at {place.location} has no {what} field {name!r}; it has {listed or 'none'}")
    if not candidates and what == "vector":
        return StoreError(f"the index at {place.location} has no vector field; it cannot be searched by vectors")
    found = f"{len(candidates)} {what} fields ({listed})" if candidates else f"no {what} field"
    return StoreError(
        f"the index at {place.location} has {found}; name the one to read with the option {what}=NAME of the location, "
        f"as in redis://host:port/{place.name}?{what}=NAME"
    )
