"""The dirty file with its ground truth: every defect found and classed, every other finding defended."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from crosstune.data import Audit, LoadSettings, audit, load
from crosstune.errors import DataError

MESSY = Path(__file__).resolve().parents[2] / "../shared/data/messy"

pytestmark = pytest.mark.skipif(not MESSY.is_dir(), reason="../shared/data/messy is not here")

# Findings on rows that defects.csv lists otherwise. A duplicate is reported at its later row and names the
# earlier one; defects.csv lists whichever row was added. These remain, each true of the row:
DEFENDED = {
    (24, "very-long-answer"): "6,315 characters, longer than any row but the four listed",
    (84, "same-question-other-answer"): "the question of row 12, whose very long answer is another one",
    (146, "same-question-other-answer"): "the question of row 24, whose answer is another one",
    (102, "near-duplicate"): "the pair of row 10, which has it between byte-order marks",
    (193, "near-duplicate"): "the pair of row 151, here between no-break spaces",
    (198, "near-duplicate"): "the pair of row 175, here between zero-width spaces",
}


@pytest.fixture(scope="module")
def report() -> Audit:
    return audit(MESSY / "qa.csv")


@pytest.fixture(scope="module")
def truth() -> dict[int, str]:
    with (MESSY / "defects.csv").open(encoding="utf-8", newline="") as file:
        return {int(row["row"]): row["defect"] for row in csv.DictReader(file)}


def test_every_defect_is_found_and_classed(report: Audit, truth: dict[int, str]) -> None:
    # A finding that compares two rows is true of both.
    found = {(row, f.kind) for f in report.findings for row in (f.row, f.other_row) if row is not None}
    missed = {(row, kind) for row, kind in truth.items() if kind != "none" and (row, kind) not in found}
    assert missed == set()


def test_no_finding_that_is_neither_listed_nor_defended(report: Audit, truth: dict[int, str]) -> None:
    alarms = {
        (f.row, f.kind)
        for f in report.findings
        if f.kind not in (truth[f.row], truth.get(f.other_row or 0)) and (f.row, f.kind) not in DEFENDED
    }
    assert alarms == set()


def test_defended_findings_are_all_there(report: Audit) -> None:
    # A defence of a finding that is no longer made would hide the next false alarm.
    assert set(DEFENDED) <= {(f.row, f.kind) for f in report.findings}


def test_counts(report: Audit) -> None:
    # The README's figures: 8 empty + 4 blank answers, 3 empty questions, 4 placeholders, 3 answers equal to
    # their question, 2 blank rows and 1 header are dropped: 25. Merged: 12 exact and 12 near-duplicates, and
    # 3 rows wrapped in invisible characters, which repeat a clean row: 27. 200 - 25 - 27 = 148 are used.
    assert (report.rows_read, report.rows_used, report.rows_merged, report.rows_dropped) == (200, 148, 27, 25)
    expected = {"html-answer": 12, "html-entities": 8, "invisible-characters": 3, "exact-duplicate": 12}
    assert {kind: report.counts[kind] for kind in expected} == expected
    assert report.counts["near-duplicate"] == 15
    assert report.encoding == "utf-8-sig"
    assert report.languages == ("en",)


def test_load_and_audit_agree(report: Audit) -> None:
    loaded = load(MESSY / "qa.csv")
    assert loaded.audit == report
    assert len(loaded.collection.queries) == report.n_queries
    assert len(loaded.collection.passages) == report.n_passages
    assert sum(map(len, loaded.collection.qrels.values())) == report.n_judgments == 148
    assert loaded.splits_by_user is None


def test_loaded_texts_are_clean() -> None:
    collection = load(MESSY / "qa.csv").collection
    texts = [q.text for q in collection.queries.values()] + [p.text for p in collection.passages.values()]
    assert not [t for t in texts if "<p>" in t or "&nbsp;" in t or "\ufeff" in t or "\u200b" in t or "\xa0" in t]
    assert "Can a brewery in California fill any growler?" in texts  # row 13: "Can&nbsp;a brewery"
    first = collection.passages["p1"]
    assert dict(first.metadata) == {
        "post_id": "4",
        "Tags": "hops",
        "Score": "13",
        "CreationDate": "2014-01-21",
    }


def test_semicolons() -> None:
    report = audit(MESSY / "qa-semicolon.csv")
    assert (report.delimiter, report.rows_used, report.rows_read) == (";", 60, 60)


def test_windows_1252_gives_the_right_characters() -> None:
    loaded = load(MESSY / "qa-cp1252.csv")
    assert (loaded.audit.encoding, loaded.audit.rows_used) == ("cp1252", 60)
    text = "".join(passage.text for passage in loaded.collection.passages.values())
    raw = (MESSY / "qa-cp1252.csv").read_bytes()
    # Byte 0x92 is ’ and 0x93 is “ in Windows-1252, and nothing visible in Latin-1 or UTF-8.
    assert raw.count(b"\x92") > 0
    assert "’" in text
    assert not any(0x80 <= ord(character) < 0xA0 for character in text)


def test_odd_headers() -> None:
    report = audit(MESSY / "qa-headers.csv")
    assert report.columns == {"question": "QUESTION", "answer": "answer"}
    assert report.rows_used == 40


def test_ragged_rows_are_refused_with_row_cause_and_remedy() -> None:
    with pytest.raises(DataError, match=r"qa-ragged\.csv row 3: expected 6 fields.*found 8.*--skip-bad-rows"):
        audit(MESSY / "qa-ragged.csv")


def test_ragged_rows_are_dropped_and_reported_on_request() -> None:
    report = audit(MESSY / "qa-ragged.csv", LoadSettings(skip_bad_rows=True))
    assert [(f.row, f.action) for f in report.findings if f.kind == "ragged-row"] == [
        (row, "dropped") for row in (3, 7, 11, 19, 23)
    ]
    assert (report.rows_read, report.rows_used, report.rows_dropped) == (30, 25, 5)


def test_truncated_file_is_refused_or_its_last_row_dropped() -> None:
    with pytest.raises(DataError, match=r"qa-truncated\.csv row 61: a quoted field is still open.*--skip-bad-rows"):
        audit(MESSY / "qa-truncated.csv")
    report = audit(MESSY / "qa-truncated.csv", LoadSettings(skip_bad_rows=True))
    assert [f.row for f in report.findings if f.kind == "truncated-file"] == [61]
    assert (report.rows_read, report.rows_used) == (61, 60)
