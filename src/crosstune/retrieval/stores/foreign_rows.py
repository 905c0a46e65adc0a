"""The documents of an index that another program made, as passages and vectors. Nothing is written."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import partial
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from crosstune.retrieval.stores.foreign_schema import ForeignSchema
from crosstune.retrieval.stores.redis_connection import Connection
from crosstune.retrieval.stores.redis_query import Parameters
from crosstune.retrieval.stores.redis_search import SEARCH_TIMEOUT_MS, pipelined
from crosstune.types import Passage

_AT_ONCE = 200
_KEYS_AT_ONCE = 1000

Command: TypeAlias = tuple[str, ...]


class Documents:
    """Documents by their keys.

    A document without a text, or without a vector, is none: it could not be ranked, or not be found.

    Args:
        connection: To the server.
        schema: How the index is read.
    """

    def __init__(self, connection: Connection, schema: ForeignSchema) -> None:
        self._connection, self._schema = connection, schema
        self._ids = PassageIds(schema.prefixes)
        self._rows = _JsonRows(schema) if schema.storage == "json" else _HashRows(schema)

    def keys(self, query: str, parameters: Parameters) -> list[str]:
        """Keys of all documents of the index that a query finds, in order."""
        return sorted(self._connection.run(partial(_all_keys, self._schema.index, query, parameters)))

    def passages(self, keys: Sequence[str]) -> list[Passage | None]:
        """The passage of each key; None where there is no text or no vector."""
        found: list[Passage | None] = []
        for start in range(0, len(keys), _AT_ONCE):
            some = keys[start : start + _AT_ONCE]
            commands = [command for key in some for command in self._rows.of_passage(key)]
            answers = pipelined(self._connection, commands, decoded=False)
            pairs = zip(some, answers[::2], answers[1::2], strict=True)
            found += [self._passage(key, parts, vector) for key, parts, vector in pairs]
        return found

    def vectors(self, passage_ids: Sequence[str]) -> list[NDArray[np.float64] | None]:
        """The vector of each passage as it is stored; None where there is none."""
        found: list[NDArray[np.float64] | None] = []
        for start in range(0, len(passage_ids), _AT_ONCE):
            commands = [self._rows.of_vector(self._ids.key(one)) for one in passage_ids[start : start + _AT_ONCE]]
            answers = pipelined(self._connection, commands, decoded=False)
            found += [self._rows.vector(answer) for answer in answers]
        return found

    def _passage(self, key: str, parts: Any, vector: Any) -> Passage | None:
        values = self._rows.values(parts)
        if not values or values[0] is None or not self._rows.is_vector(vector):
            return None
        title = None if self._schema.title is None else values.pop(1)
        pairs = zip(self._schema.metadata, values[1:], strict=True)
        metadata = {one.name: value for one, value in pairs if value is not None}
        return Passage(self._ids.passage_id(key), values[0], title or "", metadata)


class PassageIds:
    """Passage ids: keys without what all of them begin with, so that each stands for one key.

    Args:
        prefixes: Of the index. The id is the whole key where there are several, and for a key that does not go on with
            ":" or repeats the prefix.
    """

    def __init__(self, prefixes: Sequence[str]) -> None:
        self._prefix = prefixes[0] if len(prefixes) == 1 else ""
        self._cut = self._prefix + ("" if self._prefix.endswith(":") else ":")

    def passage_id(self, key: str) -> str:
        """The id of a key."""
        rest = key.removeprefix(self._cut)
        return key if not self._prefix or not rest or rest.startswith(self._prefix) else rest

    def key(self, passage_id: str) -> str:
        """The key of an id."""
        whole = not self._prefix or passage_id.startswith(self._prefix)
        return passage_id if whole else self._cut + passage_id


class _HashRows:
    """What is asked of a hash, and read from the answers."""

    def __init__(self, schema: ForeignSchema) -> None:
        self._vector, self._datatype = schema.vector.source, schema.datatype
        self._n_bytes = schema.dimensions * self._datatype.itemsize
        self._sources = _sources(schema)

    def of_passage(self, key: str) -> tuple[Command, Command]:
        return ("HMGET", key, *self._sources), ("HSTRLEN", key, self._vector)

    def values(self, answer: Any) -> list[str | None]:
        # Bytes that are no text must not keep the rest of the index from being read.
        return [None if value is None else value.decode("utf-8", errors="replace") for value in answer]

    def is_vector(self, answer: Any) -> bool:
        return bool(answer == self._n_bytes)

    def of_vector(self, key: str) -> Command:
        return "HGET", key, self._vector

    def vector(self, answer: Any) -> NDArray[np.float64] | None:
        if answer is None or len(answer) != self._n_bytes:
            return None
        return np.frombuffer(answer, dtype=self._datatype).astype(np.float64)


class _JsonRows:
    """As `_HashRows`, of JSON documents."""

    def __init__(self, schema: ForeignSchema) -> None:
        self._vector, self._dimensions = schema.vector.source, schema.dimensions
        self._sources = _sources(schema)

    def of_passage(self, key: str) -> tuple[Command, Command]:
        return ("JSON.GET", key, *dict.fromkeys(self._sources)), ("JSON.TYPE", key, self._vector)

    def values(self, answer: Any) -> list[str | None]:
        if answer is None:
            return []
        found = json.loads(answer)
        by_path = found if isinstance(found, dict) else {self._sources[0]: found}  # Redis gives one path's values bare
        return [_joined(by_path[source]) for source in self._sources]

    def is_vector(self, answer: Any) -> bool:
        return bool(answer == [b"array"])

    def of_vector(self, key: str) -> Command:
        return "JSON.GET", key, self._vector

    def vector(self, answer: Any) -> NDArray[np.float64] | None:
        found = json.loads(answer or "[]")
        return np.array(found[0], dtype=np.float64) if found and len(found[0]) == self._dimensions else None


def _sources(schema: ForeignSchema) -> list[str]:
    """Where text, title if there is one, and metadata are."""
    return [one.source for one in (schema.text, schema.title, *schema.metadata) if one is not None]


def _joined(values: Sequence[Any]) -> str | None:
    """The values of a path as one text; None where there is none."""
    texts = [one if isinstance(one, str) else json.dumps(one, ensure_ascii=False) for one in values if one is not None]
    return ",".join(texts) if texts else None


def _all_keys(index: str, query: str, parameters: Parameters, client: Any) -> list[str]:
    """Keys that a query finds, however many: read by a cursor, and from the start when the connection is lost."""
    given = [part for pair in parameters.items() for part in pair]
    options = ["PARAMS", len(given), *given] if given else []
    found, cursor = client.execute_command(
        "FT.AGGREGATE", index, query, "LOAD", 1, "@__key", *options, "TIMEOUT", SEARCH_TIMEOUT_MS, "DIALECT", 2,
        "WITHCURSOR", "COUNT", _KEYS_AT_ONCE,
    )  # fmt: skip
    keys = [row[1] for row in found[1:] if row]
    while cursor:
        found, cursor = client.execute_command("FT.CURSOR", "READ", index, cursor)
        keys += [row[1] for row in found[1:] if row]
    return keys
