import pytest

from crosstune.documents import Heading, read_documents
from crosstune.errors import DataError


def _read(tmp_path, html, encoding="utf-8"):
    path = tmp_path / "a.html"
    path.write_bytes(html if isinstance(html, bytes) else html.encode(encoding))
    (document,) = read_documents(path)
    for heading in document.headings:
        assert document.text[heading.start : heading.start + len(heading.text)] == heading.text
    return document


def test_what_frames_every_page_is_left_out(tmp_path):
    document = _read(
        tmp_path,
        """<!doctype html><html><head><title> Returns |
        Shop </title><style>p {}</style></head><body>
        <header>Shop <nav>Home About</nav></header><nav>Menu</nav>
        <main><article><header><h1>Returns <br>and <b>ref</b>unds</h1></header>
        <p>You can&nbsp;send it
           back.<script>track("x")</script></p>
        <!-- hidden --><div>Costs: <span>none</span></div><footer>Updated in May.</footer></article></main>
        <noscript>Enable it</noscript><footer>Imprint</footer></body></html>""",
    )
    assert document.title == "Returns | Shop"
    assert document.headings == (Heading(0, 1, "Returns and refunds"),)
    assert document.text == "Returns and refunds\n\nYou can send it back.\n\nCosts: none\n\nUpdated in May."


def test_lists_tables_and_code_keep_their_lines(tmp_path):
    document = _read(
        tmp_path,
        "<ul><li>one<li><p>two <b>bold</b></p></li></ul><table><tr><th>plan</th><th>price</th></tr>"
        "<tr><td>A</td><td>5</td></tr></table><pre><code>def f():\n    return 1</code></pre>a<br/>b",
    )
    assert document.text == "- one\n\n- two bold\n\nplan | price\nA | 5\n\ndef f():\n    return 1\n\na\nb"


def test_a_head_that_is_never_closed_does_not_swallow_the_page(tmp_path):
    assert _read(tmp_path, "<head><title>T</title><body><p>Text<p>More").text == "Text\n\nMore"


def test_headings_of_all_levels(tmp_path):
    document = _read(tmp_path, "".join(f"<h{n}>H{n}</h{n}><p>t{n}</p>" for n in range(1, 7)))
    assert [(h.level, h.text) for h in document.headings] == [(n, f"H{n}") for n in range(1, 7)]


@pytest.mark.parametrize(
    ("encoding", "declared"),
    [
        ("utf-8", "iso-8859-1"),  # declared wrongly: what is valid UTF-8 is UTF-8
        ("cp1252", "iso-8859-1"),  # as browsers read it
        ("cp1250", "windows-1250"),  # no guess could tell it from Windows-1252
        ("shift_jis", "Shift_JIS"),
        ("cp1252", "no-such-encoding"),
        ("cp1252", ""),
    ],
)
def test_encodings(tmp_path, encoding, declared):
    said = {"cp1250": "Žluťoučký kůň", "shift_jis": "返品は三十日以内"}.get(encoding, "Café “Größe”")
    html = f'<meta charset="{declared}"><p>{said}</p>'
    assert _read(tmp_path, html, encoding).text == said


def test_damaged_utf8_is_an_error(tmp_path):
    with pytest.raises(DataError, match=r"a\.html: line 1 has bytes that are not UTF-8"):
        _read(tmp_path, b"<p>" + "é".encode() * 50 + b"\xff")


def test_xml_and_plain_text_called_html_warn_nobody(tmp_path, recwarn):
    assert _read(tmp_path, '<?xml version="1.0"?><html xmlns="x"><p>a</p></html>').text == "a"
    assert _read(tmp_path, "readme.html").text == "readme.html"
    assert not recwarn.list


def test_very_deep_pages_are_read(tmp_path):
    assert _read(tmp_path, "<div>" * 1200 + "deep" + "</div>" * 1200).text == "deep"
