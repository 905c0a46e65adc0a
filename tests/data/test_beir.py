"""A BEIR folder: ids kept, splits told apart, faults named by file and line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from crosstune.data import LoadSettings, check_leaks, load, read_beir, splits_from_user
from crosstune.errors import DataError, LeakageError

SHARED = Path(__file__).resolve().parents[2] / "../shared/data"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    corpus = [
        {"_id": "d1", "title": "Pay", "text": "By card &amp; bank."},
        {"_id": "d2", "title": "", "text": "On its way."},
        {"_id": "d3", "title": "", "text": " "},
    ]
    queries = [("a", "How to pay?"), ("b", "Where is it?"), ("c", "Not judged?"), ("d", "Is it gone?")]
    write(tmp_path / "corpus.jsonl", [json.dumps(line) for line in corpus])
    write(tmp_path / "queries.jsonl", [json.dumps({"_id": qid, "text": text}) for qid, text in queries])
    (tmp_path / "qrels").mkdir()
    write(tmp_path / "qrels" / "train.tsv", ["query-id\tcorpus-id\tscore", "a\td1\t2", "a\td2\t0"])
    write(tmp_path / "qrels" / "test.tsv", ["query-id\tcorpus-id\tscore", "b\td2\t1", "d\td1\t0"])
    return tmp_path


def write(path: Path, lines: list[str]) -> None:
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def test_load(folder: Path) -> None:
    loaded = load(folder)
    assert loaded.collection.qrels == {"a": {"d1": 2, "d2": 0}, "b": {"d2": 1}, "d": {"d1": 0}}
    assert loaded.collection.passages["d1"].full_text == "Pay By card & bank."
    assert loaded.splits_by_user == {"a": "train", "b": "test", "d": "test"}
    report = loaded.audit
    assert (report.format, report.rows_read, report.rows_used, report.n_queries_with_relevant) == (
        "beir",
        4,
        4,
        2,
    )
    assert {(f.row, f.kind) for f in report.findings} == {
        (1, "html-entities"),
        (3, "empty-answer"),
        (3, "query-without-judgments"),
        (3, "no-relevant-answer"),
    }


def test_one_split(folder: Path) -> None:
    test = read_beir(folder, "test")
    assert (set(test.queries), set(test.passages)) == ({"b", "d"}, {"d1", "d2"})
    with pytest.raises(DataError, match=r"no judgments in qrels/dev\.tsv"):
        read_beir(folder, "dev")


def test_faults(folder: Path) -> None:
    write(folder / "qrels" / "dev.tsv", ["c\td3\t1", "c\td2\t1"])
    with pytest.raises(DataError, match=r"qrels/dev\.tsv line 1: document 'd3' is not in"):
        load(folder)
    loaded = load(folder, LoadSettings(skip_bad_rows=True))
    assert loaded.collection.qrels["c"] == {"d2": 1}
    assert (loaded.audit.rows_dropped, loaded.audit.counts["bad-judgment"]) == (1, 1)
    write(folder / "qrels" / "dev.tsv", ["b\td1\t1"])
    with pytest.raises(LeakageError, match="query 'b' is judged in dev too"):
        load(folder)


def test_missing_and_broken_files(folder: Path) -> None:
    write(folder / "corpus.jsonl", ['{"_id": "d1", "text": "x"}', '{"_id": "d1", "text": "y"}'])
    with pytest.raises(DataError, match=r"corpus\.jsonl row 2: the id 'd1' is there twice"):
        load(folder)
    write(folder / "corpus.jsonl", ['{"_id": "d1"}'])
    with pytest.raises(DataError, match=r'corpus\.jsonl row 1: expected an object such as \{"_id"'):
        load(folder)
    (folder / "corpus.jsonl").unlink()
    with pytest.raises(DataError, match=r"corpus\.jsonl is missing"):
        load(folder)


@pytest.mark.skipif(not SHARED.is_dir(), reason="../shared/data is not here")
def test_a_published_benchmark_leaks_and_says_so() -> None:
    # SciFact's own split has test claims that differ from a train claim in one word ("decreases").
    loaded = load(SHARED / "scifact")
    by_query = loaded.splits_by_user or {}
    assert (loaded.audit.n_queries, loaded.audit.n_passages) == (1109, 5183)
    with pytest.raises(LeakageError, match=r"^\d+ groups of near-duplicate questions"):
        splits_from_user(loaded.collection, by_query)
    result = splits_from_user(loaded.collection, by_query, drop_leaks=True)
    assert len(result.test) == 300
    assert check_leaks(loaded.collection, result) > 0  # abstracts cited on both sides: a shared corpus
