"""PDF: the text of every page."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from crosstune.documents.builder import TextBuilder
from crosstune.documents.document import Document
from crosstune.documents.text_files import plain
from crosstune.errors import DataError
from crosstune.extras import require

# Titles that a program filled in: the name of a file, or its own.
_NO_TITLE = re.compile(r"microsoft \w+ - .*|untitled.*|.*\.\w{2,5}", re.IGNORECASE)


def read_pdf(path: Path, document_id: str) -> Document:
    """Read a PDF; an empty line stands where a page ends, and `Document.pages` says where each begins.

    Raises:
        DataError: The file is protected by a password, is damaged, or holds pictures of text only.
        MissingExtraError: pypdf is not installed.
    """
    pypdf = require("pypdf", extra="documents", what="reading PDF")
    builder = TextBuilder()
    try:
        reader = pypdf.PdfReader(path)
        if reader.is_encrypted and not reader.decrypt(""):
            raise DataError("the PDF is protected by a password; save a copy without one", path)
        pages = tuple(builder.add(_lines(page)) for page in reader.pages)
        title = _title(reader)
    except (DataError, OSError):
        raise
    except Exception as error:  # pypdf raises whatever a damaged file makes it stumble over
        raise DataError(f"the PDF cannot be read ({error}); open it and save it anew", path) from error
    if not builder.text:
        raise DataError("the PDF holds no text, only pictures of it perhaps; run a text recognition on it", path)
    return Document(document_id, builder.text, title, pages=pages)


def _lines(page: Any) -> str:
    return "\n".join(line.rstrip() for line in plain(page.extract_text()).strip().split("\n"))


def _title(reader: Any) -> str:
    title = " ".join(plain(reader.metadata.title or "").split()) if reader.metadata else ""
    return "" if _NO_TITLE.fullmatch(title) else title
