import json

import pytest

from crosstune.documents import ReadLog, read_documents
from crosstune.documents.rows import as_text, open_csv
from crosstune.errors import DataError


def _write(tmp_path, name, content):
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def _texts(path, **options):
    return [document.text for document in read_documents(path, **options)]


@pytest.mark.parametrize(
    ("content", "texts"),
    [
        ("text,tag\na,1\nb,2\n", ["a", "b"]),
        ("\ufefftag;Text\n1;a, b\n2;b\n", ["a, b", "b"]),
        ("tag\ttext\n1\ta;b\n", ["a;b"]),
        ("text|tag\r\na|1\r\n", ["a"]),
        ("text\na, and b\nc\n", ["a, and b", "c"]),  # one column: a comma would give rows of two widths
        ('text,tag\n"one\n\ntwo ""2""",1\n', ['one\n\ntwo "2"']),
        ("text;tag\nCafé;1\n".encode("cp1252"), ["Café"]),
        ("text;tag\nCafé;1\n".encode("utf-16"), ["Café"]),
    ],
)
def test_delimiter_quotes_and_encoding_are_found_out(tmp_path, content, texts):
    for name in ("a.csv", "b.tsv"):
        assert _texts(_write(tmp_path, name, content)) == texts


def test_the_column_named_by_the_user_decides_on_the_delimiter(tmp_path):
    # By the widths alone both delimiters would do, and the comma gives more columns.
    path = _write(tmp_path, "a.csv", "Say what?;x,y,z\nhello;1,2,3\n")
    assert _texts(path, text_column="say what") == ["hello"]


@pytest.mark.parametrize("row", ["b,2,3", "b"])
def test_a_ragged_row_is_named(tmp_path, row):
    path = _write(tmp_path, "faq.csv", f"text,tag\na,1\n{row}\n")
    documents = read_documents(path)
    assert next(documents).text == "a"
    with pytest.raises(DataError, match=rf"faq\.csv row 2: expected 2 fields .*, found {row.count(',') + 1};") as error:
        next(documents)
    assert (error.value.path, error.value.row) == (path, 2)


def test_a_quote_that_is_never_closed_is_named(tmp_path):
    with pytest.raises(DataError, match=r"faq\.csv row 2: this is not CSV \(unexpected end of data\)"):
        _texts(_write(tmp_path, "faq.csv", 'text,tag\na,1\n"b,2\n'))


def test_a_header_with_a_column_twice_is_refused(tmp_path):
    with pytest.raises(DataError, match="has the column 'tag' more than once"):
        _texts(_write(tmp_path, "faq.csv", "text,tag,tag\na,1,2\n"))


def test_columns_without_a_name_are_numbered(tmp_path):
    assert open_csv(_write(tmp_path, "a.csv", "text,,\nb,1,2\n"), None).names == ("text", "column 2", "column 3")


@pytest.mark.parametrize("name", ["a.csv", "a.jsonl"])
@pytest.mark.parametrize("content", ["", "\ufeff", "\n\n"])
def test_empty_files_are_skipped_with_a_reason(tmp_path, name, content):
    log = ReadLog()
    assert _texts(_write(tmp_path, name, content), log=log) == []
    assert sum(log.counts.values()) >= 1


def test_jsonl(tmp_path):
    lines = ['\ufeff{"text": "one", "n": 1.50}', "", '{"text": "tw\\u00f6", "ok": true, "gone": null}']
    documents = list(read_documents(_write(tmp_path, "a.jsonl", "\r\n".join(lines))))
    assert [document.text for document in documents] == ["one", "twö"]
    # The row is the number of the line.
    assert [document.document_id for document in documents] == ["a.jsonl#1", "a.jsonl#3"]
    assert [document.metadata for document in documents] == [{"n": "1.5"}, {"ok": "true"}]


@pytest.mark.parametrize(
    ("line", "cause"),
    [
        ('{"text": "b"', "not JSON"),
        ('["b"]', "found a JSON list, not an object"),
        ('"b"', "found a JSON str, not an object"),
        ("[" * 100_000, "not JSON"),
    ],
)
def test_a_bad_line_is_named(tmp_path, line, cause):
    path = _write(tmp_path, "a.jsonl", '{"text": "a"}\n\n' + line + "\n")
    with pytest.raises(DataError, match=rf"a\.jsonl row 3: {cause}.*every line must be one JSON object"):
        _texts(path)


def test_objects_of_different_shapes(tmp_path):
    lines = [{"text": "a"}, {"title": "T", "text": "b"}, {"body": "c", "x": "1"}, {"x": "2"}]
    log = ReadLog()
    path = _write(tmp_path, "a.jsonl", "\n".join(map(json.dumps, lines)))
    documents = list(read_documents(path, log=log))
    assert [(document.title, document.text) for document in documents] == [("", "a"), ("T", "b"), ("", "c")]
    assert [(skipped.document_id, skipped.reason) for skipped in log.skipped] == [("a.jsonl#4", "the row has no text")]


def test_parquet_row_by_row(tmp_path):
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    n = 2500  # more than two batches
    table = pyarrow.table(
        {
            "Text": [f"t{i}" for i in range(n)],
            "price": [None if i else 2.5 for i in range(n)],
            "vector": [[0.1, 0.2]] * n,
            "picture": [b"\x00"] * n,
            "tags": [["new", "sale"]] * n,
        }
    )
    parquet.write_table(table, tmp_path / "a.parquet")
    shown = []
    documents = list(read_documents(tmp_path / "a.parquet", progress=_recorder(shown)))
    assert [document.document_id for document in documents] == [f"a.parquet#{i}" for i in range(1, n + 1)]
    assert documents[0].metadata == {"price": "2.5", "tags": "new, sale"}
    assert documents[-1].metadata == {"tags": "new, sale"}
    assert sum(shown) == (tmp_path / "a.parquet").stat().st_size
    assert min(shown) >= 0


def _recorder(shown):
    from contextlib import contextmanager

    @contextmanager
    def progress(label, total):
        yield shown.append

    return progress


def test_what_is_no_parquet_is_an_error(tmp_path):
    pytest.importorskip("pyarrow")
    with pytest.raises(DataError, match=r"a\.parquet: this is not a whole Parquet file"):
        _texts(_write(tmp_path, "a.parquet", b"PAR1 nothing"))


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("a", "a"),
        (None, ""),
        (True, "true"),
        (3, "3"),
        (float("nan"), ""),
        ([], ""),
        (["a", "b"], "a, b"),
        (["a", 1], ""),
        ({"a": "b"}, ""),
        (b"a", ""),
    ],
)
def test_values_as_texts(value, text):
    assert as_text(value) == text
