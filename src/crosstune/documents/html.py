"""HTML: headings, and text as a reader sees it, without what frames every page of a site."""

from __future__ import annotations

import re
import warnings
from pathlib import Path
from typing import Any

from crosstune.documents.builder import LINE, PARAGRAPH, TextBuilder
from crosstune.documents.document import Document
from crosstune.documents.text_files import encoding_of, plain, read_any_text
from crosstune.extras import require

_DROPPED = ("script", "style", "template", "noscript", "svg", "iframe", "title", "nav")
# Of the page when they stand outside of these, of an article when inside: an article's header has its title.
_FRAME = ("header", "footer")
_CONTENT = ("article", "main", "section")
_CELLS = ("td", "th")
_HEADINGS = ("h1", "h2", "h3", "h4", "h5", "h6")
_BLOCKS = (
    *("p", "div", "article", "main", "section", "aside", "header", "footer", "ul", "ol", "dl", "table", "pre"),
    *("blockquote", "figure", "figcaption", "details", "summary", "form", "fieldset", "hr", "address", "body"),
)
_LINES = ("li", "tr", "dt", "dd", "option", "caption")
# Unicode reserves these for use inside of a program: they mark structure in the text of a page.
_BLOCK, _LINE, _KEPT_BLANK, _HEADING = "\ufdd0", "\ufdd1", "\ufdd2", "\ufdd3"
_MARKS = re.compile(f"[{_BLOCK}{_LINE}{_KEPT_BLANK}{_HEADING}]")
# What pages call Latin-1 is Windows-1252 to every browser.
_AS_BROWSERS = {"iso-8859-1": "cp1252", "latin-1": "cp1252", "latin1": "cp1252", "us-ascii": "cp1252"}


def read_html(path: Path, document_id: str) -> Document:
    """Read an HTML page: scripts, styles, navigation, and header and footer of the page are left out.

    Raises:
        DataError: No known encoding fits.
        MissingExtraError: beautifulsoup4 is not installed.
    """
    soup = _parsed(_markup(path))
    title = " ".join(soup.title.get_text().split()) if soup.title else ""
    builder = TextBuilder()
    _add(builder, soup)
    return Document(document_id, builder.text, title, tuple(builder.headings))


def add_html(builder: TextBuilder, markup: str) -> None:
    """Add the blocks and headings of a piece of HTML.

    Raises:
        MissingExtraError: beautifulsoup4 is not installed.
    """
    _add(builder, _parsed(markup))


def _markup(path: Path) -> str:
    """The page, in UTF-8 or UTF-16 where it is that, else in the encoding it declares or else seems to have."""
    bs4 = require("bs4.dammit", extra="documents", what="reading HTML")
    raw = path.read_bytes()
    declared = bs4.EncodingDetector.find_declared_encoding(raw, is_html=True)
    if declared and not encoding_of(path).startswith("utf"):
        try:
            return plain(raw.decode(_AS_BROWSERS.get(declared.lower(), declared)))
        except (LookupError, UnicodeDecodeError):
            pass  # pages declare encodings they are not in: what the bytes look like is the better guess then
    return read_any_text(path)


def _parsed(markup: str) -> Any:
    bs4 = require("bs4", extra="documents", what="reading HTML")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # that it looks like XML, or like the name of a file
        return bs4.BeautifulSoup(_MARKS.sub("", markup), "html.parser")


def _add(builder: TextBuilder, soup: Any) -> None:
    _drop(soup)
    _mark(soup)
    for block in soup.get_text().split(_BLOCK):
        if block.startswith(_HEADING):
            builder.add_heading(block[2:].replace(_LINE, " "), int(block[1]))
        else:
            _add_lines(builder, block)


def _drop(soup: Any) -> None:
    for tag in soup.find_all([*_DROPPED, *_FRAME]):
        if not tag.decomposed and (tag.name in _DROPPED or tag.find_parent(_CONTENT) is None):
            tag.decompose()


def _mark(soup: Any) -> None:
    """Put marks where blocks, lines, cells and headings begin and end."""
    for tag in soup.find_all("br"):
        tag.replace_with(_LINE)
    for tag in soup.find_all("pre"):
        tag.string = tag.get_text().expandtabs(4).replace(" ", _KEPT_BLANK).replace("\n", _LINE)
    for tag in soup.find_all(_HEADINGS):
        tag.replace_with(f"{_BLOCK}{_HEADING}{tag.name[1]}{tag.get_text()}{_BLOCK}")
    for tag in soup.find_all(_CELLS):
        if tag.find_next_sibling(_CELLS):
            tag.append(" | ")
    for tag in soup.find_all("li"):
        first = next((string for string in tag.strings if string.strip()), None)
        if first is not None:
            first.insert_before("- ")
    for names, mark in ((_BLOCKS, _BLOCK), (_LINES, _LINE)):
        for tag in soup.find_all(names):
            tag.insert_before(mark)
            tag.insert_after(mark)


def _add_lines(builder: TextBuilder, block: str) -> None:
    lines = (" ".join(line.split()).replace(_KEPT_BLANK, " ") for line in block.split(_LINE))
    gap = PARAGRAPH
    for line in lines:
        if line.strip():
            builder.add(line, gap)
            gap = LINE
