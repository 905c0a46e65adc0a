import pytest

from crosstune.documents import ReadLog, read_documents
from crosstune.documents.columns import Columns, find_columns
from crosstune.errors import DataError


def _read(tmp_path, content, **options):
    path = tmp_path / "faq.csv"
    path.write_text(content, encoding="utf-8")
    return list(read_documents(path, **options))


@pytest.mark.parametrize(
    ("names", "columns"),
    [
        (("Question", "Answer"), Columns("Answer", None, None, (("Question", "question"),))),
        (("q", "content", "name"), Columns("content", "name", None, (("q", "question"),))),
        (("_id", "title", "text"), Columns("text", "title", "_id", ())),
        # The first of each list of names wins; the others are metadata.
        (
            ("answer", "text", "heading", "title"),
            Columns("text", "title", None, (("answer", "answer"), ("heading", "heading"))),
        ),
        (("document_id", "Passage ID", "body"), Columns("body", None, "Passage ID", (("document_id", "document_id"),))),
        (("query", "question", "text"), Columns("text", None, None, (("query", "query"), ("question", "question")))),
        (("a", "b"), Columns(None, None, None, (("a", "a"), ("b", "b")))),
    ],
)
def test_roles_by_name(tmp_path, names, columns):
    assert find_columns(names, None, tmp_path) == columns


def test_the_question_is_metadata_and_not_text(tmp_path):
    (document,) = _read(tmp_path, "Q,Answer,Product Line,Text 2\nHow?,So.,Shoes,\n")
    assert document.document_id == "faq.csv#1"
    assert document.text == "So."
    assert document.metadata == {"question": "How?", "product_line": "Shoes"}  # the empty cell is left out


def test_rows_are_counted_with_the_empty_ones_and_those_are_logged(tmp_path):
    log = ReadLog()
    documents = _read(tmp_path, "text,title\n a ,T  1\n,\n\n ,only a title\nb,\n", log=log)
    assert [(d.document_id, d.text, d.title) for d in documents] == [
        ("faq.csv#1", "a", "T 1"),
        ("faq.csv#5", "b", ""),
    ]
    assert [(s.document_id, s.reason) for s in log.skipped] == [
        ("faq.csv#2", "the row is empty"),
        ("faq.csv#3", "the row is empty"),
        ("faq.csv#4", "the row has no text"),
    ]
    assert log.counts == {"the row is empty": 2, "the row has no text": 1}


def test_the_log_lists_the_first_thousand_and_counts_all(tmp_path):
    log = ReadLog()
    _read(tmp_path, "text,x\n" + ",1\n" * 1001, log=log)
    assert len(log.skipped) == 1000
    assert log.counts == {"the row has no text": 1001}


def test_own_ids_are_taken_as_they_are(tmp_path):
    documents = _read(tmp_path, "ID,text\n A-1 ,a\nA-2,b\n")
    assert [document.document_id for document in documents] == ["A-1", "A-2"]
    assert documents[0].metadata == {}


def test_an_id_twice_is_an_error_that_names_both_rows(tmp_path):
    with pytest.raises(DataError, match=r"faq\.csv row 3: the id '7' is that of faq\.csv row 1 too"):
        _read(tmp_path, "id,text\n7,a\n8,b\n7,c\n")


def test_an_id_that_is_missing_is_an_error(tmp_path):
    with pytest.raises(DataError, match=r"faq\.csv row 2: column 'id' is empty; give every row an id"):
        _read(tmp_path, "id,text\n7,a\n,b\n")


def test_ids_must_differ_between_files_too(tmp_path):
    (tmp_path / "a.csv").write_text("id,text\n1,a\nb.txt,x\n")
    (tmp_path / "b.txt").write_text("b")
    with pytest.raises(DataError, match=r"a\.csv row 2: the id 'b\.txt' is that of b\.txt too"):
        list(read_documents(tmp_path))
    (tmp_path / "a.csv").write_text("id,text\n1,a\n")
    (tmp_path / "c.csv").write_text("id,text\n1,c\n")
    with pytest.raises(DataError, match=r"c\.csv row 1: the id '1' is that of a\.csv row 1 too"):
        list(read_documents(tmp_path))


def test_a_table_without_texts_is_an_error_with_the_remedy(tmp_path):
    with pytest.raises(DataError, match=r"faq\.csv: expected a column text or .*, found 'x', 'y'; .*--text-column"):
        _read(tmp_path, "x,y\n1,2\n")
    with pytest.raises(DataError, match=r"expected a column 'z', found 'x', 'y'"):
        _read(tmp_path, "x,y\n1,2\n", text_column="z")


def test_the_text_column_can_be_named(tmp_path):
    (document,) = _read(tmp_path, "Beschreibung,text\nlang,kurz\n", text_column="beschreibung")
    assert document.text == "lang"
    assert document.metadata == {"meta_text": "kurz"}  # "text" is a name of the index


def test_two_columns_of_one_field_are_refused(tmp_path):
    with pytest.raises(DataError, match="columns 'Product Line' and 'product-line' are both the field product_line"):
        _read(tmp_path, "text,Product Line,product-line\na,b,c\n")
