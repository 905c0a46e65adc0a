"""The schema of an index in Redis: the usual one, or one that the user has edited."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from crosstune.errors import StoreError
from crosstune.extras import require
from crosstune.language import language_of
from crosstune.retrieval.stores.checks import OWN_FIELDS
from crosstune.retrieval.stores.conditions import TAG_SEPARATOR
from crosstune.types import IndexSpec

_WHAT = "an index in Redis"
_HEADER = """\
# RedisVL schema of a crosstune index. Edit it (other HNSW parameters, more fields taken from the metadata) and give
# it again; a change makes a new version of the index. crosstune sets name and prefix. It needs the fields that stand
# here; "_terms" holds the words that crosstune's text search matches, stemmed and without stop words.
"""
_EXACT_TAG = {"separator": TAG_SEPARATOR, "case_sensitive": True, "index_empty": True}
# What RediSearch stems. Not Chinese: it would cut the field of terms, which are cut already, once more.
_STEMMED = frozenset(
    {
        "arabic", "armenian", "basque", "catalan", "danish", "dutch", "english", "finnish", "french", "german", "greek",
        "hindi", "hungarian", "indonesian", "irish", "italian", "lithuanian", "nepali", "norwegian", "portuguese",
        "romanian", "russian", "serbian", "spanish", "swedish", "tamil", "turkish", "yiddish",
    }
)  # fmt: skip


def usual_schema(name: str, spec: IndexSpec) -> dict[str, Any]:
    """The schema of an index for which the user gives none, as RedisVL reads it."""
    fields: list[dict[str, Any]] = [
        {"name": "text", "type": "text"},
        {"name": "title", "type": "text"},
        {"name": "_terms", "type": "text", "attrs": {"no_stem": True}},
        {"name": "document", "type": "tag", "attrs": _EXACT_TAG},
        *({"name": part, "type": "numeric"} for part in ("position", "start", "end")),
        *({"name": field, "type": kind, **_attributes(kind)} for field, kind in spec.fields.items()),
        {
            "name": "vector",
            "type": "vector",
            "attrs": {
                "algorithm": "hnsw",
                "dims": spec.dimensions,
                "distance_metric": "cosine",
                "datatype": "float32",
                "m": 16,
                "ef_construction": 200,
            },
        },
    ]
    # Redis' own stop words are English ones, whatever the language; "_terms" holds none of the language's.
    index = {"name": name, "prefix": name, "storage_type": "hash", "stopwords": []}
    return {"version": "0.1.0", "index": index, "fields": fields}


def language(spec: IndexSpec) -> str | None:
    """RediSearch's name of the language by which "text" and "title" are stemmed; None where it has no stemmer."""
    name = language_of(spec.language).name.lower()
    return name if name in _STEMMED else None


def read_schema(name: str, spec: IndexSpec, path: Path | None) -> Any:
    """The `redisvl.schema.IndexSchema` of an index: the usual one, or the one in a file.

    A file that is not there is written with the usual schema.

    Raises:
        StoreError: The file cannot be read or written, or its schema does not fit.
    """
    usual = usual_schema(name, spec)
    if path is None:
        return _parsed(usual, "the usual schema")
    try:
        if not path.exists():
            _write(path, usual)
            return _parsed(usual, path.name)
        content = require("yaml", extra="redis", what=_WHAT).safe_load(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise StoreError(f"the schema {path.name} cannot be read or written: {error}") from error
    except require("yaml", extra="redis", what=_WHAT).YAMLError as error:
        raise StoreError(f"the schema {path.name} is not YAML: {error}") from error
    schema = _parsed(content, path.name)
    faults = list(_faults(schema.to_dict(), spec))
    if faults:
        raise StoreError(
            f"the schema {path.name} does not fit the index: {'; '.join(faults)}. Remove the file to have the usual "
            "schema written there"
        )
    return schema


def own_part(content: dict[str, Any]) -> dict[str, Any]:
    """What of a schema makes versions differ: fields and stop words, and not the names that crosstune sets."""
    return {"fields": content["fields"], "stopwords": content["index"].get("stopwords")}


def metadata_fields(content: dict[str, Any]) -> dict[str, str]:
    """Field -> type of what a schema takes from a passage's metadata."""
    return {field["name"]: field["type"] for field in content["fields"] if field["name"] not in OWN_FIELDS}


def is_graph(content: dict[str, Any]) -> bool:
    """Whether a schema has vectors searched in an HNSW graph."""
    (vector,) = (field for field in content["fields"] if field["name"] == "vector")
    return str(vector["attrs"]["algorithm"]).lower() == "hnsw"


def _attributes(kind: str) -> dict[str, Any]:
    return {"attrs": _EXACT_TAG} if kind == "tag" else {}


def _write(path: Path, content: dict[str, Any]) -> None:
    yaml = require("yaml", extra="redis", what=_WHAT)

    class Plain(yaml.SafeDumper):  # type: ignore[name-defined, misc]
        def ignore_aliases(self, data: Any) -> bool:
            return True  # a file for people: no anchors where two fields have the same attributes

    path.write_text(_HEADER + yaml.dump(content, Dumper=Plain, sort_keys=False), encoding="utf-8")


def _parsed(content: Any, where: str) -> Any:
    redisvl = require("redisvl.schema", extra="redis", what=_WHAT)
    try:
        return redisvl.IndexSchema.from_dict(content)
    except (ValueError, TypeError, AttributeError, KeyError) as error:
        raise StoreError(f"{where} is no RedisVL schema: {error}") from error


def _faults(content: dict[str, Any], spec: IndexSpec) -> Iterator[str]:
    """What is expected and found, for each thing that does not fit."""
    storage = content["index"]["storage_type"]
    if storage != "hash":
        yield f"expected storage_type hash, found {storage}"
    kinds = {field["name"]: field["type"] for field in content["fields"]}
    attributes = {field["name"]: field["attrs"] for field in content["fields"]}
    needed = {"text": "text", "title": "text", "_terms": "text", "vector": "vector", **spec.fields}
    for name, kind in needed.items():
        if kinds.get(name) != kind:
            found = f"of type {kinds[name]}" if name in kinds else "none"
            yield f"expected a field {name} of type {kind}, found {found}"
    if kinds.get("_terms") == "text" and not attributes["_terms"]["no_stem"]:
        yield "expected no_stem: true for the field _terms, whose words are stemmed already"
    if kinds.get("vector") == "vector":
        parts = ("dims", "datatype", "distance_metric")
        expected = dict(zip(parts, (spec.dimensions, "float32", "cosine"), strict=True))
        given = {part: attributes["vector"][part] for part in parts}
        if given != expected:
            yield f"expected {expected} for the field vector, found {given}"
