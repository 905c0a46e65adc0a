"""Markdown: headings, and text as a reader sees it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from crosstune.documents.builder import LINE, PARAGRAPH, TextBuilder
from crosstune.documents.document import Document
from crosstune.documents.fields import field_name
from crosstune.documents.html import add_html
from crosstune.documents.text_files import read_any_text
from crosstune.extras import require

if TYPE_CHECKING:
    from markdown_it.token import Token

# Settings between lines of three dashes at the top, as sites made from Markdown have them. A first line that is
# no setting means that the dashes are a rule.
_FRONT_MATTER = re.compile(r"\A---[ \t]*\n(?=[\w-]+:)(.*?\n)(?:---|\.\.\.)[ \t]*(?:\n|\Z)", re.DOTALL)
# One setting in one line; what begins with one of YAML's signs is no plain text.
_SETTING = re.compile(r"^([\w-]+):[ \t]+([^\s\[{|>&*!#].*?)[ \t]*$", re.MULTILINE)


def read_markdown(path: Path, document_id: str) -> Document:
    """Read a Markdown file; links, emphasis and marks are reduced to their text, code stays as it is.

    Settings at the top ("front matter") that fit in a line become metadata, "title" the title.

    Raises:
        DataError: It is not text in any known encoding.
        MissingExtraError: markdown-it-py is not installed.
    """
    body = read_any_text(path)
    settings: dict[str, str] = {}
    if matter := _FRONT_MATTER.match(body):
        settings = {name: _unquoted(value) for name, value in _SETTING.findall(matter[1])}
        body = body[matter.end() :]
    builder = _built(body)
    title = settings.pop("title", "")
    metadata = {field_name(name): value for name, value in settings.items() if value}
    return Document(document_id, builder.text, title, tuple(builder.headings), metadata)


def _unquoted(value: str) -> str:
    quoted = re.fullmatch(r"""(["'])(.*)\1""", value)
    return (quoted[2] if quoted else value).strip()


def _built(body: str) -> TextBuilder:
    markdown_it = require("markdown_it", extra="documents", what="reading Markdown")
    tokens = markdown_it.MarkdownIt("commonmark").enable("table").parse(body)
    reader = _Reader()
    for place, token in enumerate(tokens):
        if token.type == "inline":
            reader.inline(tokens[place - 1], _inline(token.children or []))
        else:
            reader.block(token)
    return reader.builder


class _Reader:
    """Takes the parts of a document in their order."""

    def __init__(self) -> None:
        self.builder = TextBuilder()
        self._bullet = ""
        self._cells: list[str] = []
        self._rows: list[str] = []

    def inline(self, opener: Token, text: str) -> None:
        """The text of a paragraph, a heading or a cell."""
        if opener.type in ("th_open", "td_open"):
            self._cells.append(text)
        elif opener.type == "heading_open" and opener.level == 0:  # not inside a quotation or a list
            self.builder.add_heading(text, int(opener.tag[1]))
        else:
            self.builder.add(self._bullet + text, LINE if opener.hidden else PARAGRAPH)
            self._bullet = ""

    def block(self, token: Token) -> None:
        """Anything else; what only opens or closes a block changes nothing."""
        if token.type in ("fence", "code_block"):
            self.builder.add(token.content)
        elif token.type == "html_block":
            add_html(self.builder, token.content)
        elif token.type == "list_item_open":
            self._bullet = f"{token.info}. " if token.info else "- "
        elif token.type == "list_item_close":
            self._bullet = ""
        elif token.type == "tr_close":
            self._rows.append(" | ".join(self._cells))
            self._cells.clear()
        elif token.type == "table_close":
            self.builder.add("\n".join(self._rows))
            self._rows.clear()


def _inline(tokens: Sequence[Token]) -> str:
    return "".join(map(_piece, tokens))


def _piece(token: Token) -> str:
    if token.type == "image":
        return _inline(token.children or [])
    if token.type == "html_inline":
        return "\n" if token.content.lower().startswith("<br") else ""
    return {"softbreak": " ", "hardbreak": "\n"}.get(token.type, token.content)
