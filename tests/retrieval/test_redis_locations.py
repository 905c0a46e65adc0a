"""How an index in Redis is named."""

import pytest

from crosstune.errors import StoreError
from crosstune.retrieval.stores import open_store, parse_location


@pytest.mark.parametrize(
    ("location", "server", "database", "name", "shown"),
    [
        ("redis://localhost/docs", "localhost:6379", 0, "docs", "redis://localhost:6379/docs"),
        ("redis://h:7000/3/my.docs-2", "h:7000", 3, "my.docs-2", "redis://h:7000/3/my.docs-2"),
        ("rediss://ann:p%40ss@h:7000/0/docs", "h:7000", 0, "docs", "rediss://ann@h:7000/docs"),
        ("redis://:p@[::1]:7000/docs", "[::1]:7000", 0, "docs", "redis://[::1]:7000/docs"),
        (
            "rediss://h/docs?ssl_cert_reqs=none",
            "h:6379",
            0,
            "docs",
            "rediss://h:6379/docs?ssl_cert_reqs=none",
        ),
    ],
)
def test_locations(location, server, database, name, shown):
    place = parse_location(location)
    assert (place.server, place.database, place.name, place.location) == (server, database, name, shown)
    again = parse_location(place.location)
    assert (again.url, again.username, again.name) == (place.url, place.username, place.name)


def test_credentials(monkeypatch):
    place = parse_location("redis://ann:p%40s%2Fs@h/docs")
    assert (place.username, place.password) == ("ann", "p@s/s")
    assert "p@s" not in f"{place!r} {place} {place.location} {place.url}"
    monkeypatch.setenv("CROSSTUNE_REDIS_PASSWORD", "from outside")
    assert parse_location("redis://ann@h/docs").password == "from outside"
    assert parse_location("redis://ann:own@h/docs").password == "own"


@pytest.mark.parametrize(
    ("location", "message"),
    [
        ("redis://:s3cret@localhost", "names no index"),
        ("redis://:s3cret@localhost:6379/0", "names no index"),
        ("redis://:s3cret@localhost:port/docs", "port"),
        ("redis://:s3cret@/docs", "names no Redis server"),
        ("redis://:s3cret@h/x/docs", "number of a database"),
        ("redis://:s3cret@h/0/1/docs", "number of a database"),
        ("redis://:s3cret@h/:b", "':b' cannot be the name"),
        ("redis://:s3cret@h/a*", "cannot be the name"),
        ("redis://h/docs?password=s3cret", "option 'password'"),
        ("redis://h/docs?ssl_password=s3cret", "option 'ssl_password'"),
        ("redis://h/docs?decode_responses=0", "option 'decode_responses'"),
        ("http://:s3cret@h/docs", "http://"),
        ("  ", "is empty"),
    ],
)
def test_locations_that_cannot_be(location, message):
    with pytest.raises(StoreError, match=message) as caught:
        parse_location(location)
    assert "s3cret" not in str(caught.value)


def test_options_of_tls_that_redis_does_not_know():
    with pytest.raises(StoreError, match="ssl_ options"):
        open_store("rediss://127.0.0.1:1/docs?ssl_colour=red")
