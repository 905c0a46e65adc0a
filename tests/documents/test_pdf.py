import pytest

from crosstune.documents import ChunkSettings, ReadLog, chunk, read_documents
from crosstune.errors import DataError


def write_pdf(path, pages, password=None, title=None):
    """A page for each list of lines; a page without lines has no text."""
    from pypdf import PdfWriter
    from pypdf.generic import DecodedStreamObject, DictionaryObject, NameObject

    writer = PdfWriter()
    font = DictionaryObject(
        {
            NameObject("/Type"): NameObject("/Font"),
            NameObject("/Subtype"): NameObject("/Type1"),
            NameObject("/BaseFont"): NameObject("/Helvetica"),
        }
    )
    for lines in pages:
        page = writer.add_blank_page(300, 300)
        fonts = DictionaryObject({NameObject("/F1"): font})
        page[NameObject("/Resources")] = DictionaryObject({NameObject("/Font"): fonts})
        stream = DecodedStreamObject()
        drawn = "".join(f"({line}) Tj 0 -14 Td " for line in lines)
        stream.set_data(f"BT /F1 12 Tf 20 250 Td {drawn}ET".encode())
        page[NameObject("/Contents")] = writer._add_object(stream)
    if title:
        writer.add_metadata({"/Title": title})
    if password is not None:
        writer.encrypt(user_password=password, owner_password="owner", algorithm="RC4-128")
    writer.write(path)
    return path


def test_text_pages_and_title(tmp_path, words):
    path = write_pdf(tmp_path / "a.pdf", [["First line", "second line"], [], ["Third page"]], title="The manual")
    (document,) = read_documents(path)
    assert document.text == "First line\nsecond line\n\nThird page"
    # 22 characters on page 1, page 2 has none and stands at its end, page 3 follows the empty line.
    assert document.pages == (0, 22, 24)
    assert (document.document_id, document.title) == ("a.pdf", "The manual")
    (passage,) = chunk(document, words, ChunkSettings())
    assert passage.metadata == {"page": "1"}


def test_passages_know_their_page(tmp_path, words):
    pages = [[" ".join(["alpha"] * 30)], [" ".join(["beta"] * 30)]]
    (document,) = read_documents(write_pdf(tmp_path / "a.pdf", pages))
    first, second = chunk(document, words, ChunkSettings(32, 0))
    # 60 words under a limit of 32: the end of the page is in the second half, so it is where the cut is.
    assert (first.text, first.metadata["page"]) == (pages[0][0], "1")
    assert (second.text, second.metadata["page"]) == (pages[1][0], "2")


@pytest.mark.parametrize("title", ["Microsoft Word - prices.docx", "prices.indd", "Untitled-1"])
def test_titles_that_a_program_filled_in_are_none(tmp_path, title):
    (document,) = read_documents(write_pdf(tmp_path / "a.pdf", [["x"]], title=title))
    assert document.title == ""


def test_a_password_is_named_as_the_cause(tmp_path):
    path = write_pdf(tmp_path / "a.pdf", [["secret"]], password="pass")
    with pytest.raises(DataError, match=r"a\.pdf: the PDF is protected by a password; save a copy without one"):
        list(read_documents(path))


def test_a_pdf_that_only_forbids_changes_is_read(tmp_path):
    (document,) = read_documents(write_pdf(tmp_path / "a.pdf", [["open"]], password=""))
    assert document.text == "open"


def test_a_pdf_without_text_is_an_error(tmp_path):
    with pytest.raises(DataError, match=r"a\.pdf: the PDF holds no text.*text recognition"):
        list(read_documents(write_pdf(tmp_path / "a.pdf", [[], []])))


@pytest.mark.parametrize("content", [b"", b"no pdf at all", b"%PDF-1.4\n%broken\ntrailer << /Root 7 0 R >>\n%%EOF"])
def test_a_damaged_pdf_is_an_error(tmp_path, content):
    (tmp_path / "a.pdf").write_bytes(content)
    with pytest.raises(DataError, match=r"a\.pdf: the PDF cannot be read \(.+\); open it and save it anew"):
        list(read_documents(tmp_path / "a.pdf"))


def test_in_a_folder_such_a_pdf_is_skipped_with_its_reason(tmp_path):
    write_pdf(tmp_path / "scan.pdf", [[]])
    write_pdf(tmp_path / "text.pdf", [["x"]])
    log = ReadLog()
    assert [document.document_id for document in read_documents(tmp_path, log=log)] == ["text.pdf"]
    (skipped,) = log.skipped
    assert skipped.document_id == "scan.pdf"
    assert "holds no text" in skipped.reason
