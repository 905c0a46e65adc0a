"""From a location to its store."""

from __future__ import annotations

from pathlib import Path

from crosstune.errors import StoreError
from crosstune.protocols import Store
from crosstune.retrieval.stores.checks import check_spec
from crosstune.retrieval.stores.folder_store import open_folder, start_folder
from crosstune.retrieval.stores.foreign import ForeignSpec
from crosstune.retrieval.stores.location import FolderPlace, parse_location
from crosstune.retrieval.stores.redis_opening import is_foreign_redis, open_redis, start_redis
from crosstune.types import IndexSpec


def open_store(location: str, foreign: ForeignSpec | None = None) -> Store:
    """The published version at a location: a folder, or redis://[user:password@]host:port[/db]/NAME.

    Args:
        location: As said; for an index in Redis that crosstune did not make also with the options of `parse_location`.
        foreign: The embedder of such an index, which is then only read; crosstune's own indexes know theirs.

    Raises:
        StoreError: There is none, or it cannot be reached or read; another program made it, and `foreign` is None.
        MissingExtraError: The location is in Redis and redisvl is not installed.
    """
    place = parse_location(location)
    return open_folder(place) if isinstance(place, FolderPlace) else open_redis(place, foreign)


def is_foreign(location: str) -> bool:
    """Whether the index at a location is in Redis and was made by another program.

    Raises:
        StoreError: The server cannot be reached or used, or a manifest cannot be read.
        MissingExtraError: The location is in Redis and redisvl is not installed.
    """
    place = parse_location(location)
    return not isinstance(place, FolderPlace) and is_foreign_redis(place)


def start_version(location: str, spec: IndexSpec, *, schema: Path | None = None) -> Store:
    """The version of the index that is made with this spec.

    That is the published one when it was made with an equal spec: what is written to it is found at once. Else it is
    a new version, which nobody finds before it is published; one that a killed run left behind is continued.

    Args:
        location: As for `open_store`.
        spec: What the index is made with.
        schema: RedisVL schema (YAML) for an index in Redis: read when the file is there, else written with the
            usual schema, to be edited. None keeps the schema of the published version, if its spec is equal.

    Raises:
        StoreError: Something else is at the location, it cannot be reached or written, or the schema does not fit.
        MissingExtraError: The location is in Redis and redisvl is not installed.
    """
    check_spec(spec)
    place = parse_location(location)
    if not isinstance(place, FolderPlace):
        return start_redis(place, spec, schema)
    if schema is not None:
        raise StoreError(f"a RedisVL schema ({schema.name}) is of no use to an index in a folder; leave it out")
    return start_folder(place, spec)
