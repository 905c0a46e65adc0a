import os
from contextlib import contextmanager
from pathlib import Path

import pytest

from crosstune.documents import ReadLog, read_documents
from crosstune.errors import DataError, MissingExtraError


def _fill(folder, files):
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content, encoding="utf-8")


def _ids(path, **options):
    return [document.document_id for document in read_documents(path, **options)]


def test_a_folder_in_the_order_of_its_paths(tmp_path):
    files = {
        "b/two.txt": "2",
        "b/c/faq.csv": "text\nx\ny\n",
        "a.md": "# A\n\na",
        "b.HTML": "<p>b",
        ".git/hidden.txt": "no",
        "b/.hidden.md": "no",
        "notes.docx": "no",
        "b/old.docx": "no",
        "LICENSE": "no",
    }
    _fill(tmp_path, files)
    log = ReadLog()
    # By parts: the folder "b" and all in it stands before the file "b.HTML".
    assert _ids(tmp_path, log=log) == ["a.md", "b/c/faq.csv#1", "b/c/faq.csv#2", "b/two.txt", "b.HTML"]
    assert log.unknown == {".docx": 2, "": 1}
    assert log.skipped == []


def test_links_are_read_but_not_followed_into_folders(tmp_path):
    _fill(tmp_path, {"docs/a.txt": "a", "elsewhere/b.txt": "b"})
    docs = tmp_path / "docs"
    os.symlink(tmp_path / "elsewhere/b.txt", docs / "b.txt")
    os.symlink(docs, docs / "loop")  # to itself
    os.symlink(docs / "nothing", docs / "gone.txt")
    os.symlink(docs / "round.txt", docs / "round.txt")
    log = ReadLog()
    assert _ids(docs, log=log) == ["a.txt", "b.txt"]
    assert {skipped.document_id: skipped.reason for skipped in log.skipped} == {
        "loop": "links to folders are not followed",
        "gone.txt": "this is a link to nothing, or no file",
        "round.txt": "this is a link to nothing, or no file",
    }


def test_in_a_folder_files_that_cannot_be_read_at_all_are_skipped(tmp_path):
    _fill(tmp_path, {"a.txt": "a", "numbers.csv": "x,y\n1,2\n", "empty.txt": "", "list.jsonl": "[]\n"})
    (tmp_path / "bad.txt").write_bytes(b"a\x00" * 600 + b"b")
    log = ReadLog()
    assert _ids(tmp_path, log=log) == ["a.txt"]
    reasons = {skipped.document_id: skipped.reason for skipped in log.skipped}
    assert set(reasons) == {"numbers.csv", "empty.txt", "list.jsonl", "bad.txt"}
    assert reasons["empty.txt"] == "the file has no text"
    assert "expected a column text or" in reasons["numbers.csv"]
    assert "row 1: found a JSON list" in reasons["list.jsonl"]
    assert "expected utf-16" in reasons["bad.txt"]


def test_in_a_folder_a_bad_row_is_an_error(tmp_path):
    # Some rows are read by then: to go on would leave half of the table out unseen.
    _fill(tmp_path, {"a.txt": "a", "faq.csv": "text,x\na,1\nb\n"})
    documents = read_documents(tmp_path)
    assert [next(documents).document_id, next(documents).document_id] == ["a.txt", "faq.csv#1"]
    with pytest.raises(DataError, match=r"faq\.csv row 2: expected 2 fields"):
        next(documents)


def test_what_may_not_be_read_is_an_error(tmp_path, monkeypatch):
    def refuse(path, *args, **options):
        raise PermissionError(13, "Permission denied", str(path))

    _fill(tmp_path, {"a.txt": "a"})
    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(DataError, match=r"a\.txt: the file cannot be opened \(Permission denied\)"):
        _ids(tmp_path / "a.txt")
    monkeypatch.setattr(os, "scandir", refuse)  # as root nothing else refuses
    with pytest.raises(DataError, match=rf"{tmp_path.name}: the folder cannot be read \(Permission denied\)"):
        _ids(tmp_path)


def test_nothing_to_read_is_an_error_at_once(tmp_path):
    with pytest.raises(DataError, match="there is no such file or folder"):
        read_documents(tmp_path / "nothing")
    _fill(tmp_path, {"a.docx": "", "LICENSE": ""})
    with pytest.raises(DataError, match=r"found 1 without an ending, 1 \.docx\); expected \.txt, \.md"):
        read_documents(tmp_path)
    with pytest.raises(DataError, match=r"a\.docx: files of this kind cannot be read; expected \.txt, \.md"):
        read_documents(tmp_path / "a.docx")


@pytest.mark.parametrize("name", ["faq.csv", "faq.jsonl"])
def test_documents_come_one_after_the_other(tmp_path, name):
    _fill(tmp_path, {name: "text\n" + "row\n" * 100_000 if name == "faq.csv" else '{"text": "row"}\n' * 100_000})
    shown = []

    @contextmanager
    def progress(label, total):
        yield shown.append

    documents = read_documents(tmp_path / name, progress=progress)
    assert [next(documents).document_id for _ in range(3)] == [f"{name}#1", f"{name}#2", f"{name}#3"]
    assert 0 < sum(shown) < 20_000  # of 400,000 bytes and more


def test_progress_counts_every_byte_once(tmp_path):
    _fill(tmp_path, {"a.txt": "four", "b.csv": "text\n" + "row\n" * 20_000, "c.md": "", "d.csv": "x\n1\n"})
    seen = []

    @contextmanager
    def progress(label, total):
        seen.append(total)
        yield lambda n: seen.append(-n)

    list(read_documents(tmp_path, progress=progress))
    assert seen[0] == 4 + 5 + 80_000 + 0 + 4
    assert sum(seen) == 0
    assert max(seen[1:]) <= 0
    assert sum(-n > 0 for n in seen[1:]) > 4  # the table moves the bar while it is read


def test_a_missing_package_is_named(tmp_path, monkeypatch):
    import sys

    _fill(tmp_path, {"a.md": "a"})
    monkeypatch.setitem(sys.modules, "markdown_it", None)
    with pytest.raises(MissingExtraError, match=r"reading Markdown needs .*crosstune\[documents\]"):
        _ids(tmp_path)
