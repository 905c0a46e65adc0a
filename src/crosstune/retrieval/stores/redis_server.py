"""What is asked of the Redis server around one index: manifest, versions, indexes and keys."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from functools import partial
from typing import Any

from crosstune.errors import StoreError
from crosstune.extras import require
from crosstune.retrieval.stores.location import RedisPlace
from crosstune.retrieval.stores.redis_connection import Connection
from crosstune.retrieval.stores.version import VERSION, Manifest, read_manifest

_KEYS_AT_ONCE = 1000
_LOOK_AGAIN_S = 0.02


def manifest_key(place: RedisPlace) -> str:
    """Key of the manifest that names the published version."""
    return f"crosstune:index:{place.name}"


def index_name(place: RedisPlace, version: str) -> str:
    """Name of a version's index; the published one has the index's own name as alias."""
    return f"{place.name}:{version}"


def read_published(connection: Connection, place: RedisPlace) -> Manifest | None:
    """The manifest; None where crosstune has published nothing.

    Raises:
        StoreError: It is damaged or newer.
    """
    text = connection.run(lambda client: client.get(manifest_key(place)))
    return None if text is None else read_manifest(text, place.location)


def foreign(place: RedisPlace, remedy: str) -> StoreError:
    """The error of an index that crosstune did not make."""
    return StoreError(
        f"Redis at {place.location} has an index {place.name!r} that crosstune did not make, or whose manifest "
        f"({manifest_key(place)}) was removed; {remedy}"
    )


def index_info(connection: Connection, name: str) -> dict[str, Any] | None:
    """FT.INFO of an index or an alias; None where there is none."""
    return connection.run(partial(info_of, name))


def info_of(name: str, client: Any) -> dict[str, Any] | None:
    """As `index_info`, asked once."""
    response_error = require("redis.exceptions", extra="redis", what="an index in Redis").ResponseError
    try:
        found: dict[str, Any] = client.ft(name).info()
    except response_error as error:
        if re.search("unknown index|no such index", str(error), re.IGNORECASE):
            return None
        raise
    return found


def wait_until_indexed(name: str, timeout_s: float, client: Any) -> None:
    """Wait while Redis indexes what it already holds, as after a start: until then a search misses passages.

    Raises:
        StoreError: It takes longer.
    """
    deadline = time.monotonic() + timeout_s
    while (info := info_of(name, client)) is not None and int(info["indexing"]):
        if time.monotonic() > deadline:
            done = float(info["percent_indexed"])
            raise StoreError(f"Redis is still indexing what {name} holds ({done:.0%} done); try again later")
        time.sleep(_LOOK_AGAIN_S)


def scan(connection: Connection, pattern: str) -> Iterator[list[str]]:
    """Keys that match a pattern, some at a time; one can come twice while the keyspace changes."""
    cursor = 0
    while True:
        cursor, keys = connection.run(partial(_scan_once, cursor, pattern))
        if keys:
            yield keys
        if cursor == 0:
            return


def drop_other_versions(connection: Connection, place: RedisPlace, version: str) -> None:
    """Drop all versions but one: first their indexes, so that removing a key costs no work on them, then the keys.

    Keys are found by name and not by index: what a killed run has left goes too.
    """
    ours = re.compile(rf"{re.escape(place.name)}:({VERSION.pattern})(?::.*)?", re.DOTALL)

    def is_other(name: str) -> bool:
        match = ours.fullmatch(name)
        return match is not None and match[1] != version

    for name in connection.run(lambda client: client.execute_command("FT._LIST")):
        if is_other(name):
            _drop_index(connection, name)
    for keys in scan(connection, f"{place.name}:*"):
        others = [key for key in keys if is_other(key)]
        if others:
            connection.run(partial(_unlink, others))


def _drop_index(connection: Connection, name: str) -> None:
    if index_info(connection, name) is not None:  # a repeated call after a lost answer finds it dropped
        connection.run(lambda client: client.ft(name).dropindex(delete_documents=False))


def _scan_once(cursor: int, pattern: str, client: Any) -> Any:
    return client.scan(cursor, match=pattern, count=_KEYS_AT_ONCE)


def _unlink(keys: list[str], client: Any) -> Any:
    return client.unlink(*keys)
