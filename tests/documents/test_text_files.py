import pytest

from crosstune.documents import read_documents
from crosstune.documents.text_files import plain
from crosstune.errors import DataError


def _text(path):
    (document,) = read_documents(path)
    return document.text


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "cp1252"])
def test_any_encoding_any_line_end_and_no_mark(tmp_path, encoding):
    path = tmp_path / "a.txt"
    path.write_bytes("Café – open\r\n\r\nuntil “late”\rtonight, every night of the year.\n".encode(encoding))
    assert _text(path) == "Café – open\n\nuntil “late”\ntonight, every night of the year.\n"


def test_damaged_utf8_is_an_error_that_names_the_line(tmp_path):
    path = tmp_path / "a.txt"
    path.write_bytes(("é" * 50 + "\n").encode() * 3 + b"\xff\n")
    with pytest.raises(DataError, match=r"a\.txt: line 4 has bytes that are not UTF-8.*save the file as UTF-8"):
        list(read_documents(path))


def test_what_is_no_text_is_an_error(tmp_path):
    path = tmp_path / "a.txt"
    path.write_bytes(b"a\x00" * 600 + b"b")  # looks like UTF-16, and ends inside of a character
    with pytest.raises(DataError, match=r"a\.txt: expected utf-16.* text, found the bytes"):
        list(read_documents(path))


def test_halves_of_characters_become_replacement_characters():
    assert plain("a\ud83db \ud83d\ude00\x00\ufeff") == "a\ufffdb 😀"
