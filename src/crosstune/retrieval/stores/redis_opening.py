"""From a place in Redis to its store."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from crosstune.errors import StoreError
from crosstune.extras import require
from crosstune.protocols import Store
from crosstune.retrieval.stores.foreign import ForeignRedisStore, ForeignSpec, read_foreign
from crosstune.retrieval.stores.location import RedisPlace
from crosstune.retrieval.stores.redis_connection import Connection
from crosstune.retrieval.stores.redis_schema import is_graph, language, metadata_fields, own_part, read_schema
from crosstune.retrieval.stores.redis_server import (
    foreign,
    index_info,
    index_name,
    read_published,
    wait_until_indexed,
)
from crosstune.retrieval.stores.redis_store import RedisStore
from crosstune.retrieval.stores.version import Manifest, version_name
from crosstune.types import IndexSpec

_INDEXING_TIMEOUT_S = 600.0


def open_redis(place: RedisPlace, foreign_spec: ForeignSpec | None = None) -> Store:
    """The published version of an index in Redis, or an index that another program made.

    Raises:
        StoreError: There is none, it is of another program and nothing is told of it, or the server cannot be reached
            or used.
        MissingExtraError: redisvl is not installed.
    """
    with _connected(place) as connection:
        manifest = read_published(connection, place)
        if manifest is None:
            return _open_foreign(connection, place, foreign_spec)
        place.require_own()
        try:
            return _store(connection, place, manifest)
        except StoreError:
            latest = read_published(connection, place)
            if latest is None or latest == manifest:
                raise
            connection.close()
    return open_redis(place)  # another version was published while this one was opened


def is_foreign_redis(place: RedisPlace) -> bool:
    """Whether there is an index that another program made; see `open_redis` for what is raised."""
    with _connected(place) as connection:
        found = read_published(connection, place) is None and index_info(connection, place.name) is not None
        connection.close()
        return found


def start_redis(place: RedisPlace, spec: IndexSpec, schema_path: Path | None) -> RedisStore:
    """The version of an index in Redis that is made with a spec: see `start_version`.

    Raises:
        StoreError: The name is taken by an index that is not ours, the schema does not fit, or the server cannot be
            reached or used.
        MissingExtraError: redisvl is not installed.
    """
    place.require_own()
    with _connected(place) as connection:
        published = read_published(connection, place)
        if published is None and index_info(connection, place.name) is not None:
            raise foreign(place, "give the index another name, or drop that one (FT.DROPINDEX)")
        kept = published is not None and published.spec == spec and schema_path is None
        if published is not None and kept and index_info(connection, index_name(place, published.version)) is not None:
            return _store(connection, place, published)
        schema = read_schema(place.name, spec, schema_path)
        own, usual = own_part(schema.to_dict()), own_part(read_schema(place.name, spec, None).to_dict())
        # A schema that is the usual one makes no other version, whether it stands in a file or not.
        manifest = Manifest(version_name(spec, None if own == usual else own), spec)
        _create_index(connection, place, manifest, schema)
        return _store(connection, place, manifest)


@contextmanager
def _connected(place: RedisPlace) -> Iterator[Connection]:
    """A connection to a server that answers and has the search module; closed when the block fails."""
    connection = Connection(place)
    try:
        connection.run(lambda client: client.ping())
        connection.run(lambda client: client.execute_command("FT._LIST"))
        yield connection
    except BaseException:
        connection.close()
        raise


def _open_foreign(connection: Connection, place: RedisPlace, spec: ForeignSpec | None) -> ForeignRedisStore:
    info = index_info(connection, place.name)
    if info is None:
        raise StoreError(f"there is no index at {place.location}; check the name, or make one with `crosstune index`")
    if spec is None:
        raise foreign(place, "say with --embedder which model its vectors are from, and it is read as it is")
    connection.run(partial(wait_until_indexed, place.name, _INDEXING_TIMEOUT_S))
    return read_foreign(connection, place, info, spec)


def _create_index(connection: Connection, place: RedisPlace, manifest: Manifest, schema: Any) -> None:
    name = index_name(place, manifest.version)
    if index_info(connection, name) is not None:
        return
    definitions = require("redis.commands.search.index_definition", extra="redis", what="an index in Redis")
    definition = definitions.IndexDefinition(
        prefix=[f"{name}:"], index_type=definitions.IndexType.HASH, language=language(manifest.spec)
    )
    fields, stop_words = schema.redis_fields, schema.index.stopwords
    connection.run(lambda client: client.ft(name).create_index(fields, definition=definition, stopwords=stop_words))


def _store(connection: Connection, place: RedisPlace, manifest: Manifest) -> RedisStore:
    name = index_name(place, manifest.version)
    connection.run(partial(wait_until_indexed, name, _INDEXING_TIMEOUT_S))
    info = index_info(connection, name)
    if info is None:
        raise StoreError(f"the index at {place.location} was dropped from Redis; index the documents again")
    redisvl = require("redisvl.redis.connection", extra="redis", what="an index in Redis")
    content = redisvl.convert_index_info_to_schema(info)
    return RedisStore(connection, place, manifest, metadata_fields(content), approximate=is_graph(content))
