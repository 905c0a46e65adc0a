"""Indexes of passages: in a folder, or in Redis; one contract (`protocols.Store`)."""

from crosstune.retrieval.stores.conditions import matching
from crosstune.retrieval.stores.embedded import RedisServer, embedded_redis
from crosstune.retrieval.stores.foreign import ForeignRedisStore, ForeignSpec
from crosstune.retrieval.stores.location import FolderPlace, RedisPlace, parse_location
from crosstune.retrieval.stores.opening import is_foreign, open_store, start_version

__all__ = [
    "FolderPlace",
    "ForeignRedisStore",
    "ForeignSpec",
    "RedisPlace",
    "RedisServer",
    "embedded_redis",
    "is_foreign",
    "matching",
    "open_store",
    "parse_location",
    "start_version",
]
