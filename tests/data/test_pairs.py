import pytest

from crosstune.data import LoadSettings, read_documents, read_pairs
from crosstune.errors import DataError


def write(path, text):
    path.write_text(text, encoding="utf-8")
    return path


def test_pairs_are_read_row_by_row_and_never_merged(tmp_path):
    path = write(tmp_path / "p.csv", "query,passage,label\nq,a,1\nq,a,1\nq,b,0\n")
    file = read_pairs(path)
    assert [(r.row, r.query, r.passage, r.relevance) for r in file.records] == [
        (1, "q", "a", 1),
        (2, "q", "a", 1),
        (3, "q", "b", 0),
    ]
    assert file.labelled
    assert file.dropped == ()


def test_without_a_label_column_pairs_are_unlabelled(tmp_path):
    assert not read_pairs(write(tmp_path / "p.csv", "Question,Answer\nq,a\n")).labelled


def test_rows_without_a_pair_are_reported(tmp_path):
    path = write(tmp_path / "p.csv", "Question,Answer\nq,a\n,\nq,a,b\nq,c\n")
    file = read_pairs(path, LoadSettings(skip_bad_rows=True))
    assert [record.row for record in file.records] == [1, 4]
    assert [(found.row, found.kind) for found in file.dropped] == [(2, "blank-row"), (3, "ragged-row")]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("Question,Answer\nq,\n", "row 1: the passage is empty"),
        ("Question,Answer\n,a\n", "row 1: the question is empty"),
        ("Question,Answer\n", "no question-passage pairs"),
        ("Question,Answer\nq,a,b\n", "row 1.*--skip-bad-rows"),
    ],
)
def test_pairs_that_cannot_be_judged_are_refused(tmp_path, text, message):
    with pytest.raises(DataError, match=message):
        read_pairs(write(tmp_path / "p.csv", text))


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("d.txt", "first text\n\nsecond text\n"),
        ("d.csv", "id,Text\n1,first text\n2,second text\n"),
        ("d.tsv", "passage\tid\nfirst text\t1\nsecond text\t2\n"),
        ("d.jsonl", '{"content": "first text"}\n{"content": "second text"}\n'),
        ("e.jsonl", '"first text"\n"second text"\n'),
    ],
)
def test_documents_in_every_format(tmp_path, name, text):
    found = read_documents(write(tmp_path / name, text))
    assert found.texts == ("first text", "second text")
    assert found.first_stage_scores is None


def test_documents_in_parquet(tmp_path):
    pyarrow = pytest.importorskip("pyarrow", reason="the extra parquet is not installed")
    from pyarrow import parquet

    parquet.write_table(pyarrow.table({"text": ["a", "b"], "first_stage_score": [0.5, 0.25]}), tmp_path / "d.parquet")
    found = read_documents(tmp_path / "d.parquet")
    assert found.texts == ("a", "b")
    assert found.first_stage_scores == (0.5, 0.25)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("d.csv", "id,name\n1,x\n", "no column of passages among id, name"),
        ("d.csv", "text,first_stage_score\na,0.5\nb,high\n", "row 2: first_stage_score 'high' is not a number"),
        ("d.csv", "text\n \n", "row 1: column 'text' is empty"),
        ("d.csv", "text,id\na,1,2\n", "row 1: expected 2 fields as in the header, found 3"),
        ("d.jsonl", "{oops\n", "row 1: not JSON"),
        ("d.txt", "\n", "has no passages"),
        ("d.docx", "x", "'.docx' names no known format"),
    ],
)
def test_documents_that_cannot_be_read_are_refused(tmp_path, name, text, message):
    with pytest.raises(DataError, match=message):
        read_documents(write(tmp_path / name, text))


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(DataError, match="no such file"):
        read_documents(tmp_path / "none.txt")
