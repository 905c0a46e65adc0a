"""The article's pairs: every draw that is forced is worked out by hand; the others lie in the right half."""

from __future__ import annotations

import csv
import warnings
from collections import Counter
from pathlib import Path

import pytest

from crosstune.data.nli import LABELS, NLIPair, build_nli_pairs, read_qa_dict
from crosstune.errors import DataError

ROOT = Path(__file__).resolve().parents[2]
SHARED = ROOT / "../shared/data"


def qa_dict(answers: list[str]) -> dict[str, dict[str, str]]:
    return {str(i): {"q": f"question {i}", "a": answer} for i, answer in enumerate(answers)}


def drawn(answers: list[str], seed: int = 0) -> list[str]:
    """The contradiction of each row."""
    return [pair.passage for pair in build_nli_pairs(qa_dict(answers), seed) if pair.label == 0]


def test_two_rows_leave_no_choice() -> None:
    assert build_nli_pairs(qa_dict(["a", "b"])) == [
        NLIPair("question 0", "a", 1, "0"),
        NLIPair("question 0", "b", 0, "0"),
        NLIPair("question 1", "b", 1, "1"),
        NLIPair("question 1", "a", 0, "1"),
    ]
    assert LABELS == {"contradiction": 0, "entailment": 1}


def test_four_rows_draw_evenly_from_the_other_half() -> None:
    counts = [Counter(column) for column in zip(*(drawn(list("abcd"), seed) for seed in range(300)), strict=True)]
    # Halves ab and cd. Each of two rows is drawn 150 times of 300, give or take 4 standard deviations of 8.7.
    assert [set(count) for count in counts] == [set("cd"), set("cd"), set("ab"), set("ab")]
    assert all(115 <= n <= 185 for count in counts for n in count.values())


def test_the_middle_row_of_an_odd_number_never_draws_itself() -> None:
    # 5 // 2 is 2: rows 0 and 1 draw from 2, 3, 4, and rows 2, 3 and 4 from 0 and 1. By the article's rule row
    # 2 would draw from 2, 3, 4: its own answer one time in three.
    columns = list(zip(*(drawn(list("abcde"), seed) for seed in range(200)), strict=True))
    assert [set(column) for column in columns] == [set("cde"), set("cde"), set("ab"), set("ab"), set("ab")]


def test_an_equal_answer_is_never_a_contradiction() -> None:
    # Row 2 has row 0's answer but for case and punctuation: row 0 is left with row 3, and row 2 with row 1.
    for seed in range(50):
        contradictions = drawn(["Thirty days.", "b", "thirty days", "d"], seed)
        assert contradictions[0] == "d"
        assert contradictions[2] == "b"


def test_no_other_answer_to_draw() -> None:
    with pytest.raises(DataError, match="row 0 of 4 finds no answer other than its own"):
        build_nli_pairs(qa_dict(["same", "b", "Same", "same!"]))
    with pytest.raises(DataError, match="row 0 of 1 finds no answer"):
        build_nli_pairs(qa_dict(["alone"]))


def test_the_articles_size() -> None:
    pairs = build_nli_pairs(qa_dict([f"answer {i}" for i in range(178)]))
    assert [pair.label for pair in pairs] == [1, 0] * 178
    assert [pair.key for pair in pairs] == [str(i // 2) for i in range(356)]
    rows = [int(pair.passage.split()[1]) for pair in pairs]
    assert rows[::2] == list(range(178))
    assert all(row >= 89 for row in rows[1:178:2])  # of rows 0 to 88
    assert all(row < 89 for row in rows[179::2])  # of rows 89 to 177


def test_seeded() -> None:
    answers = [f"answer {i}" for i in range(178)]
    assert drawn(answers, seed=3) == drawn(answers, seed=3)
    assert drawn(answers, seed=3) != drawn(answers, seed=4)


def test_double_quotes_are_removed_and_blanks_kept() -> None:
    pairs = build_nli_pairs({"0": {"q": 'What is "it"?', "a": ' The "thing".'}, "1": {"q": "q", "a": "a"}})
    assert (pairs[0].query, pairs[0].passage) == ("What is it?", " The thing.")
    assert pairs[3].passage == " The thing."


def write(path: Path, text: str, encoding: str = "utf-8") -> Path:
    path.write_bytes(text.encode(encoding))
    return path


def test_rows_are_read_as_they_are(tmp_path: Path) -> None:
    path = write(tmp_path / "qa.csv", 'Question,Answer\r\nQ1?," A, <b>1</b>"\r\nQ1?," A, <b>1</b>"\r\nQ2?,A2\r\n')
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert read_qa_dict(path) == {
            "0": {"q": "Q1?", "a": " A, <b>1</b>"},
            "1": {"q": "Q1?", "a": " A, <b>1</b>"},
            "2": {"q": "Q2?", "a": "A2"},
        }


@pytest.mark.parametrize(("encoding", "delimiter"), [("utf-8-sig", ";"), ("utf-16", "\t"), ("cp1252", ",")])
def test_delimiters_and_encodings(tmp_path: Path, encoding: str, delimiter: str) -> None:
    rows = [("Answer", "Nr", " question "), ("Größe für 10 €", "1", "Größe?"), ("Später", "2", "Wann?")]
    text = "".join(delimiter.join(row) + "\n" for row in rows)
    path = write(tmp_path / "qa.csv", text, encoding)
    expected = {"0": {"q": "Größe?", "a": "Größe für 10 €"}, "1": {"q": "Wann?", "a": "Später"}}
    assert read_qa_dict(path) == expected


def test_rows_that_cannot_make_a_pair_are_named(tmp_path: Path) -> None:
    path = write(tmp_path / "qa.csv", "Question,Answer\nQ1,A1\nQ2,\n ,A3\n,\nQuestion,Answer\nQ6,A6\n")
    with pytest.warns(UserWarning, match=r"qa.csv: 4 rows .* left out \(row 2, 3, 4, 5\)"):
        found = read_qa_dict(path)
    assert found == {"0": {"q": "Q1", "a": "A1"}, "1": {"q": "Q6", "a": "A6"}}


@pytest.mark.parametrize(
    ("text", "row", "cause"),
    [
        ("Question,Answer\nQ1,\n", None, "no row has both"),
        ("Question,Answer\n", None, "no row has both"),
        ("", None, "empty"),
        ("Titel,Text\na,b\n", None, "question"),
        ("Question,Answer\nQ1,A1\nQ2,A2,A3\n", 2, "expected 2 fields"),
        ("Question,Answer,Label\nQ1,A1,1\nQ2,A2,0\n", 2, "label 0 marks a wrong answer"),
    ],
)
def test_bad_files(tmp_path: Path, text: str, row: int | None, cause: str) -> None:
    path = write(tmp_path / "qa.csv", text)
    with pytest.raises(DataError, match=cause) as caught:
        read_qa_dict(path)
    assert (caught.value.path, caught.value.row) == (path, row)


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such file"):
        read_qa_dict(tmp_path / "absent.csv")


@pytest.mark.parametrize("path", [ROOT / "examples/helpdesk.csv", SHARED / "azure-faq/qa.csv"], ids=["own", "azure"])
@pytest.mark.filterwarnings("ignore:.*are left out.*:UserWarning")
def test_against_the_csv_module(path: Path) -> None:
    if not path.is_file():
        pytest.skip(f"{path.name} of {path.parent.name} is not on this machine")
    with path.open(encoding="utf-8-sig", newline="") as file:
        rows = [(row["Question"], row["Answer"]) for row in csv.DictReader(file)]
    whole = [{"q": q, "a": a} for q, a in rows if q.strip() and a.strip()]
    # A row that repeats the header is data to the csv module, not to us.
    whole = [row for row in whole if row != {"q": "Question", "a": "Answer"}]
    assert list(read_qa_dict(path).values()) == whole
