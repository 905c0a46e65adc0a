"""An index in a folder: exact and approximate search, other programs at work, and what can go wrong on a disk."""

import json
import sqlite3
import sys
import threading
from functools import partial

import numpy as np
import pytest
import store_data

from crosstune.errors import ConfigError, MissingExtraError, StoreError
from crosstune.retrieval.stores import folder_view, matching, open_store, start_version, vectors
from crosstune.types import Condition, Passage

DIMENSIONS = 16


spec = partial(store_data.spec, dimensions=DIMENSIONS, fields={"half": "tag"})
unit_rows = partial(store_data.unit_rows, dimensions=DIMENSIONS)


def put(store, start, stop, seed=0):
    passages = [Passage(f"p{i:05}", f"refund number{i}", metadata={"half": "ab"[i % 2]}) for i in range(start, stop)]
    store.put(passages, unit_rows(stop, seed)[start:], [f"d{i}" for i in range(start, stop)])


def places(found):
    return [int(one.passage.passage_id[1:]) for one in found]


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "index"


@pytest.fixture
def published(folder):
    """A folder with an index of 50 passages."""
    store = start_version(str(folder), spec())
    put(store, 0, 50)
    store.publish()
    store.close()
    return folder


# Vector search


def test_exact_search_is_that_of_float64():
    matrix = unit_rows(2000)
    matrix[7] = matrix[1500] = matrix[3]
    exact = vectors.ExactVectors(matrix)
    for query in (*unit_rows(20, seed=1), matrix[3]):
        cosines = np.round(matrix.astype(np.float64) @ query.astype(np.float64), 6)
        expected = sorted(range(2000), key=lambda i: (-cosines[i], i))
        for depth in (1, 2, 10, 5000):
            found, scores = exact.nearest(query, depth, None)
            assert found.tolist() == expected[:depth]
            assert scores.tolist() == cosines[expected[:depth]].tolist()
        allowed = np.arange(2000) % 3 == 0
        found, _ = exact.nearest(query, 10, allowed)
        assert found.tolist() == [i for i in expected if allowed[i]][:10]


@pytest.fixture
def graphs(monkeypatch):
    """Indexes of 500 passages and more are searched by a graph."""
    monkeypatch.setattr(vectors, "EXACT_BELOW", 500)


def test_a_graph_finds_nearly_all(folder, graphs):
    store = start_version(str(folder), spec())
    put(store, 0, 3000)
    rows = unit_rows(3000)
    hits = 0
    for query in unit_rows(50, seed=1):
        cosines = rows.astype(np.float64) @ query.astype(np.float64)
        found = store.search_vector(query, 20)
        hits += len(set(places(found)) & set(np.argsort(-cosines)[:20].tolist()))
        assert [one.score for one in found] == np.round(cosines[places(found)], 6).tolist()
        assert [one.score for one in found] == sorted((one.score for one in found), reverse=True)
    assert hits / (50 * 20) >= 0.95
    assert len(list(folder.glob("*.usearch"))) == 1


def test_a_graph_with_conditions_is_exact(folder, graphs):
    store = start_version(str(folder), spec())
    put(store, 0, 700)
    query = unit_rows(1, seed=1)[0]
    cosines = unit_rows(700).astype(np.float64) @ query.astype(np.float64)
    expected = [i for i in np.argsort(-cosines).tolist() if i % 2]
    assert places(store.search_vector(query, 30, [Condition("half", "=", ("b",))])) == expected[:30]
    assert store.search_vector(query, 30, [Condition("half", "=", ("c",))]) == ()


def test_a_graph_is_kept_and_brought_up_to_date(folder, graphs, monkeypatch):
    store = start_version(str(folder), spec())
    put(store, 0, 600)
    store.publish()
    assert places(store.search_vector(unit_rows(600)[9], 1)) == [9]
    (graph,) = folder.glob("*.usearch")
    built = graph.stat().st_mtime_ns
    again = open_store(str(folder))
    assert places(again.search_vector(unit_rows(600)[9], 1)) == [9]
    assert graph.stat().st_mtime_ns == built  # read, not built again
    again.remove(["p00009"])
    put(again, 600, 700)
    put(again, 20, 21, seed=5)  # another vector for a passage that is there
    fetched = []
    monkeypatch.setattr(folder_view, "vectors_of", _noting(folder_view.vectors_of, fetched))
    assert places(again.search_vector(unit_rows(700)[650], 1)) == [650]
    assert places(again.search_vector(unit_rows(21, seed=5)[20], 1)) == [20]
    assert 9 not in places(again.search_vector(unit_rows(600)[9], 700))
    assert fetched == [101]  # the new ones and the replaced one, and nothing else
    assert graph.stat().st_mtime_ns > built


def _noting(function, notes):
    def noting(*arguments):
        notes.append(len(arguments[1]))
        return function(*arguments)

    return noting


def test_a_large_index_without_usearch_names_its_extra(folder, graphs, monkeypatch):
    store = start_version(str(folder), spec())
    put(store, 0, 500)
    monkeypatch.setitem(sys.modules, "usearch.index", None)
    with pytest.raises(MissingExtraError, match=r"500 passages.*crosstune\[search\]"):
        store.search_vector(unit_rows(1)[0], 5)
    assert len(store.search_text("refund", 5)) == 5


@pytest.mark.parametrize("left", [0, 8, 1000, -100])
def test_a_damaged_graph_is_built_again(folder, graphs, left):
    store = start_version(str(folder), spec())
    put(store, 0, 500)
    store.publish()
    assert places(store.search_vector(unit_rows(500)[9], 1)) == [9]
    (graph,) = folder.glob("*.usearch")
    damaged = graph.read_bytes()[:left]
    graph.write_bytes(damaged)
    # Threads add in any order: of two graphs only what is close beyond doubt is the same.
    assert places(open_store(str(folder)).search_vector(unit_rows(500)[9], 1)) == [9]
    assert graph.read_bytes() != damaged


# Other programs and threads


def test_threads_search_while_one_writes(folder):
    store = start_version(str(folder), spec())
    put(store, 0, 100)
    errors, stop = [], threading.Event()

    def search():
        while not stop.is_set():
            try:
                found = store.search_vector(unit_rows(1)[0], 1000)
                words = store.search_text("refund", 1000)
                assert len(found) % 100 == 0
                assert len(words) % 100 == 0
            except BaseException as error:
                errors.append(error)
                return

    threads = [threading.Thread(target=search) for _ in range(3)]
    for thread in threads:
        thread.start()
    for start in range(100, 600, 100):
        put(store, start, start + 100)
    stop.set()
    for thread in threads:
        thread.join(30)
    assert errors == []
    assert len(store.search_vector(unit_rows(1)[0], 1000)) == 600


def test_a_killed_writer_is_continued(folder):
    acknowledged = store_data.killed_writer("test_folder_store", folder)
    again = start_version(str(folder), spec())
    there = again.digests()
    assert {f"p{i:05}" for i in range(acknowledged)} <= set(there)
    assert len(there) % 50 == 0  # a call is written whole or not at all
    put(again, 0, acknowledged + 50)
    again.publish()
    assert len(open_store(str(folder)).search_text("refund", 100_000)) == again.count()


# What is in the folder


def test_the_files_of_an_index(published):
    pointer = json.loads((published / "index.json").read_text())
    assert (pointer["format"], pointer["spec"]["dimensions"]) == (1, DIMENSIONS)
    assert sorted(path.name for path in published.iterdir()) == [f"{pointer['version']}.sqlite", "index.json"]
    with sqlite3.connect(published / f"{pointer['version']}.sqlite") as connection:
        assert connection.execute("SELECT count(*) FROM vectors").fetchone() == (50,)
    connection.close()


def test_publishing_leaves_files_that_are_not_ours(published):
    (published / "notes.txt").write_text("mine")
    store = start_version(str(published), spec(language="de"))
    store.publish()
    store.close()
    names = sorted(path.name for path in published.iterdir())
    assert (len(names), names[1:]) == (3, ["index.json", "notes.txt"])


def test_a_version_that_was_replaced_can_be_read_to_its_end(published):
    reader = open_store(str(published))
    read = reader.passages()
    next(read)
    start_version(str(published), spec(language="de")).publish()
    assert len(list(read)) == 49


# What can go wrong


@pytest.mark.parametrize(
    ("prepare", "message"),
    [
        (lambda folder: None, "no index in .*index; check the path"),
        (lambda folder: folder.mkdir(), "no index in"),
        (lambda folder: folder.write_text("a file"), "no index in"),
    ],
)
def test_nothing_to_open(folder, prepare, message):
    prepare(folder)
    with pytest.raises(StoreError, match=message):
        open_store(str(folder))


def test_places_that_cannot_hold_an_index(folder, tmp_path):
    folder.mkdir()
    (folder / "report.docx").write_text("mine")
    with pytest.raises(StoreError, match=r"holds other files \(report.docx\)"):
        start_version(str(folder), spec())
    assert [path.name for path in folder.iterdir()] == ["report.docx"]
    with pytest.raises(StoreError, match="is a file"):
        start_version(str(folder / "report.docx"), spec())
    with pytest.raises(StoreError, match="cannot be used: Not a directory"):
        start_version(str(folder / "report.docx" / "below"), spec())


def test_a_schema_is_of_no_use(folder, tmp_path):
    with pytest.raises(StoreError, match=r"schema \(s.yaml\) is of no use"):
        start_version(str(folder), spec(), schema=tmp_path / "s.yaml")
    assert not folder.exists()


@pytest.mark.parametrize("opened", [open_store, lambda location: start_version(location, spec())])
@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"format": 2, "crosstune": "9.0"}', "format 2, this crosstune reads format 1"),
        ('{"format": 1, "version": "../../etc", "spec": {}}', "version or spec is missing"),
        ("{", "damaged"),
        ("", "damaged"),
    ],
)
def test_pointers_that_cannot_be_read(published, opened, content, message):
    (published / "index.json").write_text(content)
    with pytest.raises(StoreError, match=message):
        opened(str(published))


def test_a_version_whose_file_is_gone(published):
    (file,) = published.glob("*.sqlite")
    file.unlink()
    with pytest.raises(StoreError, match=f"lacks its file {file.name}"):
        open_store(str(published))


def test_a_file_that_is_no_database(published):
    (file,) = published.glob("*.sqlite")
    file.write_bytes(b"not SQLite at all" * 100)
    for opened in (open_store, lambda location: start_version(location, spec())):
        with pytest.raises(StoreError, match=r"is damaged; remove its folder.*not a database"):
            opened(str(published))


def test_a_database_without_our_tables(published):
    (file,) = published.glob("*.sqlite")
    file.unlink()
    sqlite3.connect(file).execute("CREATE TABLE other (x)").connection.close()
    with pytest.raises(StoreError, match=r"is damaged.*no such table"):
        open_store(str(published))


def test_a_damaged_page(published):
    (file,) = published.glob("*.sqlite")
    content = bytearray(file.read_bytes())
    content[4096:-4096] = b"\xff" * (len(content) - 8192)
    file.write_bytes(bytes(content))
    with pytest.raises(StoreError, match="is damaged"):
        list(open_store(str(published)).passages())


def test_a_full_disk_keeps_what_was_written(folder):
    store = start_version(str(folder), spec())
    put(store, 0, 100)
    (pages,) = store._connection.execute("PRAGMA page_count").fetchone()
    store._connection.execute(f"PRAGMA max_page_count = {pages + 2}")
    with pytest.raises(StoreError, match="has no room on its disk; free some and run again"):
        put(store, 100, 5000)
    assert store.count() == 100
    store._connection.execute("PRAGMA max_page_count = 100000")
    put(store, 100, 5000)
    assert store.count() == 5000


def test_two_writers(folder, monkeypatch):
    first = start_version(str(folder), spec())
    second = start_version(str(folder), spec())
    second._connection.execute("PRAGMA busy_timeout = 50")
    first._connection.execute("BEGIN IMMEDIATE")
    with pytest.raises(StoreError, match="is being written by another program"):
        put(second, 0, 1)
    first._connection.rollback()
    put(second, 0, 1)
    assert first.count() == 1


def test_a_store_that_was_closed(published):
    store = open_store(str(published))
    store.close()
    with pytest.raises(StoreError, match="was closed"):
        store.count()


def test_matching_reads_conditions_as_searches_do():
    passages = [Passage("a", "x", metadata={"half": "a"}), Passage("b", "x", metadata={"half": "b"}), Passage("c", "x")]
    fields = {"half": "tag"}
    assert list(matching(passages, [], fields)) == passages
    assert list(matching(iter(passages), [Condition("half", "!=", ("a",))], fields)) == passages[1:]
    with pytest.raises(ConfigError, match="'other'"):
        list(matching(passages, [Condition("other", "=", ("a",))], fields))
