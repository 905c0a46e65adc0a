"""Text as people meant it: marks, markup and broken encodings removed, and what was removed named."""

from __future__ import annotations

import html
import re
from html.entities import html5
from html.parser import HTMLParser

import ftfy.fixes

from crosstune.text import INVISIBLE, normalized

# Control characters other than tab and line ends: like zero-width marks, nobody sees or means them.
_CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]")
# Joiners carry meaning inside Persian, Indic and emoji sequences, never beside a blank or a Latin letter.
_JOINERS = re.compile("(?<=[^\\s\x00-\u024f])[\u200c\u200d](?=[^\\s\x00-\u024f])")
_ODD_BLANK = re.compile("[\u00a0\u1680\u2000-\u200a\u202f\u205f]")
_ENTITY = re.compile(r"&(?:#\d{1,7}|#[xX][0-9a-fA-F]{1,6}|[A-Za-z][A-Za-z0-9]{1,31});")
_TAG = re.compile(
    r"</?(p|br|div|ul|ol|li|h[1-6]|table|tr|td|th|thead|tbody|tfoot|caption|blockquote|pre|code|hr|a|b|i|u|s|q|em"
    r"|strong|span|font|img|sup|sub|small|big|del|ins|strike|mark|kbd|samp|var|cite|abbr|center|label|button"
    r"|figure|figcaption|iframe|html|head|title|meta|link|script|style|body|header|footer|nav|main|article|section|aside"
    r"|details|summary|dl|dt|dd)(?:\s[^<>]*)?/?>|<!--.*?-->",
    re.IGNORECASE | re.DOTALL,
)
# Tags that writers of plain text do not quote in passing: where one of these is in use, the text is HTML.
_IN_USE = re.compile(
    r"<br\s*/?>|<a\s[^<>]*\bhref\s*=[^<>]*>.*?</a>"
    r"|<(p|li|div|h[1-6]|b|strong|i|em|u)(?:\s[^<>]*)?>[^<>]*\S.*?</\1>",
    re.IGNORECASE | re.DOTALL,
)
_BLOCKS = frozenset(
    re.findall(
        r"\w+",
        "p br div ul ol li h1 h2 h3 h4 h5 h6 table tr blockquote pre hr article section dl dt dd figure",
    )
)
_PLACEHOLDERS = frozenset(
    re.findall(
        r"[^|]+",
        "n a|na|tbd|tba|tbc|todo|to do|to be determined|to be announced|see above|see below|as above"
        "|same as above|ditto|nan|null|coming soon|pending|xxx|lorem ipsum",
    )
)


class _TextOnly(HTMLParser):
    """Collects the text of an HTML fragment, with line ends where blocks end."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.parts: list[str] = []
        self._hidden = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in ("script", "style"):
            self._hidden += 1
        elif tag in _BLOCKS:
            self.parts.append("\n")
        elif tag in ("td", "th"):
            self.parts.append(" ")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        # "<br/>" is one line end; the default would report it as opened and closed.
        self.handle_starttag(tag, attrs)

    def handle_endtag(self, tag: str) -> None:
        if tag in ("script", "style"):
            self._hidden = max(self._hidden - 1, 0)
        elif tag in _BLOCKS:
            self.parts.append("\n")

    def handle_data(self, data: str) -> None:
        if not self._hidden:
            self.parts.append(data)


def clean(text: str) -> tuple[str, tuple[str, ...]]:
    """Repair one text.

    Args:
        text: A cell as found in the file.

    Returns:
        The text with plain blanks and without outer ones, and what was repaired, of "mis-decoded-text",
        "invisible-characters", "html-entities" and "html". Outer blanks, line-end style and the blanks inside
        lines are not worth a name.

    >>> clean("<p>Caf&eacute; &amp; bar</p>")
    ('Café & bar', ('html',))
    """
    repairs: list[str] = []
    if not text.isascii():
        text = _decoded(text, repairs)
    text = _visible(text, repairs)
    if "&" in text or "<" in text:
        text = _without_markup(text, repairs)
    return _ODD_BLANK.sub(" ", text).replace("\r\n", "\n").replace("\r", "\n").strip(), tuple(repairs)


def is_placeholder(text: str) -> bool:
    """Whether a text only holds the place of one: "N/A", "TBD", "see above", or nothing but punctuation."""
    plain = normalized(text)
    return plain in _PLACEHOLDERS or not any(c.isalnum() or _is_symbol(c) for c in plain)


def has_quoted_tags(text: str) -> bool:
    """Whether a text that `clean` takes for plain still shows HTML tags, as an answer about HTML does."""
    return "<" in text and _TAG.search(text) is not None


def _is_symbol(character: str) -> bool:
    """Emoji, arrows and currency can be an answer; ASCII punctuation cannot."""
    return not character.isascii() and not character.isspace() and character not in "–—…·•。、？！"


def _decoded(text: str, repairs: list[str]) -> str:
    """Undo a wrong decoding ("cafÃ©"), where ftfy is sure of one."""
    # The second step is for Windows-1252 read as Latin-1, where "’" became a control character.
    fixed = str(ftfy.fixes.fix_c1_controls(ftfy.fix_encoding(text)))
    if fixed != text:
        repairs.append("mis-decoded-text")
    return fixed


def _visible(text: str, repairs: list[str]) -> str:
    """Remove marks that nobody sees; odd blanks around the text count as such, inside it they do not."""
    bare = _CONTROL.sub("", text) if not text.isprintable() else text
    if not bare.isascii():
        kept = _JOINERS.sub(lambda match: "\ue000" if match[0] == "\u200c" else "\ue001", bare)
        bare = INVISIBLE.sub("", kept).replace("\ue000", "\u200c").replace("\ue001", "\u200d")
    outer = text[:1] + text[-1:]
    if bare != text or (_ODD_BLANK.search(outer) and text.strip()):
        repairs.append("invisible-characters")
    return bare


def _without_markup(text: str, repairs: list[str]) -> str:
    if _is_html(text):
        repairs.append("html")
        return _text_of(text)
    plain = _ENTITY.sub(_character, text)
    if plain == text:
        return text
    repairs.append("html-entities")
    # A whole page that was escaped once more, as feeds do it.
    return _without_markup(plain, repairs) if _is_html(plain) else plain


def _character(match: re.Match[str]) -> str:
    entity = match[0]
    known = entity[1] == "#" or entity[1:] in html5
    return html.unescape(entity) if known else entity


def _is_html(text: str) -> bool:
    """Whether the text *is* HTML, and does not merely quote some.

    It is when it begins with a known tag, or uses line breaks, paragraphs, links or plain emphasis. Text
    about markup ("wrap it in <del>...</del>") has other tags, inside only. A "<" that is part of no HTML tag
    ("x<y.length") proves a text plain, since HTML would have escaped it.
    """
    if "<" not in text or "<" in _TAG.sub("", text):
        return False
    stripped = text.strip()
    return _IN_USE.search(stripped) is not None or _opens_with_tag(stripped)


def _opens_with_tag(text: str) -> bool:
    first = _TAG.match(text)
    return first is not None and "<" in text[first.end() :]


def _text_of(markup: str) -> str:
    parser = _TextOnly()
    parser.feed(markup)
    parser.close()
    lines = (" ".join(line.split(" ")).strip() for line in "".join(parser.parts).split("\n"))
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).strip()
