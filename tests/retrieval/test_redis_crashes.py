"""Servers and writers that are killed, and servers that come back."""

import threading
import time

import pytest
from store_data import client_of, killed_writer, put, spec, unit_rows

from crosstune.errors import StoreError
from crosstune.retrieval.stores import embedded_redis, open_store, start_version


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


def test_a_killed_writer_is_continued(redis_server):
    location = f"{redis_server.url}/killed"
    acknowledged = killed_writer("store_data", location)
    again = start_version(location, spec())
    there = again.digests()
    assert {f"p{i}" for i in range(acknowledged)} <= set(there)
    assert len(there) == again.count()
    assert len(there) % 50 == 0  # a call is written whole or not at all
