"""Runs and judgments survive the way out and back, to the last bit of a score."""

from __future__ import annotations

import gzip
import math
from collections.abc import Callable
from pathlib import Path

import pytest

from crosstune.data import read_qrels, read_run, write_qrels, write_run
from crosstune.errors import DataError
from crosstune.types import Candidate, Run, ScoreKind

RUN = Run(
    "bm25",
    100,
    ScoreKind.LEXICAL,
    {
        "q1": (Candidate("p2", 1 / 3, 1), Candidate("p1", math.nextafter(1 / 3, 0), 2)),
        "q2": (Candidate("p1", -1e-17, 1),),
    },
)


def test_run_round_trip(tmp_path: Path) -> None:
    write_run(RUN, tmp_path / "run.trec")
    assert read_run(tmp_path / "run.trec", ScoreKind.LEXICAL, depth=100) == RUN
    first = (tmp_path / "run.trec").read_text().splitlines()[0]
    assert first == "q1 Q0 p2 1 0.3333333333333333 bm25"
    assert read_run(tmp_path / "run.trec", ScoreKind.LEXICAL).depth == 2


def test_qrels_round_trip(tmp_path: Path) -> None:
    qrels = {"q1": {"p1": 1, "p2": 0}, "q2": {"p9": 3}}
    write_qrels(qrels, tmp_path / "qrels.txt")
    assert (tmp_path / "qrels.txt").read_text() == "q1 0 p1 1\nq1 0 p2 0\nq2 0 p9 3\n"
    assert read_qrels(tmp_path / "qrels.txt") == qrels


def test_a_compressed_run_is_the_same_run(tmp_path: Path) -> None:
    plain, packed = tmp_path / "run.trec", tmp_path / "run.trec.gz"
    write_run(RUN, plain)
    write_run(RUN, packed)
    assert gzip.decompress(packed.read_bytes()) == plain.read_bytes()
    assert read_run(packed, ScoreKind.LEXICAL, depth=100) == RUN
    first = packed.read_bytes()
    write_run(RUN, packed)
    assert packed.read_bytes() == first  # no time in it


@pytest.mark.parametrize("damage", [lambda content: content[:-9], lambda content: b"q1 0 p1 1\n"])
def test_a_damaged_compressed_file_is_told(tmp_path: Path, damage: Callable[[bytes], bytes]) -> None:
    path = tmp_path / "qrels.trec.gz"
    write_qrels({"q1": {f"p{i}": 1 for i in range(50)}}, path)
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(DataError, match="not whole or not compressed"):
        read_qrels(path)


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "qrels.txt"
    write_qrels({"q1": {"p1": 1}}, path)
    with pytest.raises(DataError, match="blank or empty id 'p 2'"):
        write_qrels({"q1": {"p1": 1, "p 2": 1}}, path)
    assert read_qrels(path) == {"q1": {"p1": 1}}
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("q1 Q0 p1 1 0.5\n", "row 1: expected 6 fields"),
        ("q1 Q0 p1 1 0.5 a\nq1 Q0 p2 x 0.5 a\n", "row 2: rank or score is not a number"),
        ("q1 Q0 p1 1 0.5 a\nq2 Q0 p2 1 0.5 b\n", r"more than one run in the file \(a, b\)"),
    ],
)
def test_bad_runs(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "run.trec").write_text(text)
    with pytest.raises(DataError, match=message):
        read_run(tmp_path / "run.trec", ScoreKind.LOGIT)


def test_bad_qrels(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such file"):
        read_qrels(tmp_path / "none.txt")
    (tmp_path / "qrels.txt").write_text("q1 0 p1 yes\n")
    with pytest.raises(DataError, match="row 1: relevance 'yes' is not a whole number"):
        read_qrels(tmp_path / "qrels.txt")
