"""The files say what happened: sums, ids, and rows that a person can judge."""

import csv
import json

import numpy as np
import pytest

from crosstune.mining import MiningSettings, mine, write_account
from crosstune.types import Candidate, Collection, Passage, Query, Run, ScoreKind


@pytest.fixture
def result():
    """80 questions, each with its answer, one candidate that is too similar, and one that is not."""
    passages = {f"p{i}": Passage(f"p{i}", f"antwort, nummer {i}\nü") for i in range(80)}
    passages |= {"twin": Passage("twin", "twin, 价格"), "free": Passage("free", "free")}
    queries = {f"q{i}": Query(f"q{i}", f"question {i}") for i in range(80)}
    qrels = {f"q{i}": {f"p{i}": 1} for i in range(80)}
    collection = Collection(passages, queries, qrels, "fingerprint")
    ranking = (Candidate("twin", 2.0, 1), Candidate("free", 1.0, 2))
    return mine(
        collection,
        Run("dense", 2, ScoreKind.SIMILARITY, dict.fromkeys(queries, ranking)),
        list(queries),
        protected_passage_ids={"p79"},
        near_duplicates={},
        similarity=lambda query_id, ids: np.array([{"twin": 0.7, "free": 0.1}.get(pid, 0.5) for pid in ids]),
        settings=MiningSettings(n_negatives=1),
    )


def test_totals(result):
    totals = result.account.totals
    # Every group takes "free" and loses "twin"; the ranks suffice, so nothing is drawn at random.
    assert (totals.n_groups, totals.n_short, totals.n_dropped, totals.n_seen) == (80, 0, 0, 160)
    assert totals.taken == {"judged": 0, "hard": 80, "mid": 0, "random": 0}
    assert {reason: n for reason, n in totals.removed.items() if n} == {"nearly as similar as the positive": 80}
    assert totals.margin_rule is True


def test_files(result, tmp_path):
    folder = tmp_path / "run" / "mining"
    write_account(folder, result.account)
    assert sorted(path.name for path in folder.iterdir()) == [
        "mining-review.csv",
        "mining.json",
        "mining.jsonl",
    ]
    summary = json.loads((folder / "mining.json").read_text(encoding="utf-8"))
    assert summary["data_fingerprint"] == "fingerprint"
    assert summary["first_stage"] == "dense"
    assert summary["settings"]["n_negatives"] == 1
    assert summary["totals"]["taken"]["hard"] == 80
    lines = (folder / "mining.jsonl").read_text(encoding="utf-8").splitlines()
    assert len(lines) == 80
    assert json.loads(lines[3]) == {
        "query_id": "q3",
        "positive_id": "p3",
        "positive_similarity": 0.5,
        "n_seen": 2,
        "taken": {"judged": [], "hard": ["free"], "mid": [], "random": []},
        "removed": {"nearly as similar as the positive": ["twin"]},
        "too_similar": {"twin": 0.7},
    }


def test_review_holds_50_of_the_removed_with_their_texts(result, tmp_path):
    write_account(tmp_path, result.account)
    raw = (tmp_path / "mining-review.csv").read_bytes()
    assert raw.startswith(b"\xef\xbb\xbf")
    rows = list(csv.DictReader(raw.decode("utf-8-sig").splitlines(keepends=True)))
    assert len(rows) == 50
    assert len({row["query_id"] for row in rows}) == 50
    row = rows[0]
    number = row["query_id"][1:]
    assert row["query"] == f"question {number}"
    assert row["positive"] == f"antwort, nummer {number}\nü"
    assert (row["candidate_id"], row["candidate"]) == ("twin", "twin, 价格")
    assert (row["positive_similarity"], row["candidate_similarity"]) == ("0.5", "0.7")


def test_the_same_files_again(result, tmp_path):
    for name in ("a", "b"):
        write_account(tmp_path / name, result.account)
    write_account(tmp_path / "b", result.account)  # over what is there
    for path in (tmp_path / "a").iterdir():
        assert (tmp_path / "b" / path.name).read_bytes() == path.read_bytes()
