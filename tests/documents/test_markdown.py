import pytest

from crosstune.documents import Heading, ReadLog, read_documents


def _read(tmp_path, markdown):
    path = tmp_path / "a.md"
    path.write_text(markdown, encoding="utf-8")
    (document,) = read_documents(path)
    for heading in document.headings:
        assert document.text[heading.start : heading.start + len(heading.text)] == heading.text
    return document


def _headings(document):
    return [(heading.level, heading.text) for heading in document.headings]


def test_text_as_a_reader_sees_it(tmp_path):
    document = _read(
        tmp_path,
        "# Our *shop*\n\nSee [the **list**](http://x.y/z) of\n`prices`, ![a map](m.png) &amp; more.<br>Call.\n\n"
        "<!-- hidden -->\n\nSub head\n--------\n\nYou need:\n- a box\n- tape\n  1. long\n  2. wide\n\nDone.\n",
    )
    assert document.text == (
        "Our shop\n\nSee the list of prices, a map & more.\nCall.\n\nSub head\n\n"
        "You need:\n- a box\n- tape\n1. long\n2. wide\n\nDone."
    )
    assert document.headings == (Heading(0, 1, "Our shop"), Heading(55, 2, "Sub head"))
    assert document.title == ""


def test_hash_signs_in_code_are_no_headings(tmp_path):
    document = _read(
        tmp_path, "# Real\n\n```sh\n# not a heading\n\n  indented  \n```\n\n    # code too\n\n~~~\n# nor this\n"
    )
    assert _headings(document) == [(1, "Real")]
    assert document.text == "Real\n\n# not a heading\n\n  indented\n\n# code too\n\n# nor this"


def test_headings_in_quotations_and_lists_are_text(tmp_path):
    document = _read(tmp_path, "> # Quoted\n\n- # Listed\n\n#\n\n###### Six\n")
    assert _headings(document) == [(6, "Six")]
    assert document.text == "Quoted\n\n- Listed\n\nSix"


def test_tables_are_lines(tmp_path):
    document = _read(tmp_path, "Plans:\n\n| plan | price |\n|---|---|\n| Basic | 5 |\n| Team | 9 |\n\nEnd.\n")
    assert document.text == "Plans:\n\nplan | price\nBasic | 5\nTeam | 9\n\nEnd."


def test_html_in_markdown_is_read_too(tmp_path):
    document = _read(tmp_path, '<h1 align="center">Tool</h1>\n<script>x()</script>\n\nUse it.\n')
    assert _headings(document) == [(1, "Tool")]
    assert document.text == "Tool\n\nUse it."


def test_front_matter(tmp_path):
    document = _read(
        tmp_path,
        "---\ntitle: 'How to return'\nProduct Line: x\nproduct-line: Shoes\ntags: [a, b]\nempty:\nyear: 2024\n---\n"
        "# Body\n",
    )
    assert document.title == "How to return"
    # "Product Line" is no setting of one word; lists are YAML of more than a line's worth.
    assert document.metadata == {"product_line": "Shoes", "year": "2024"}
    assert document.text == "Body"


def test_a_rule_at_the_top_is_no_front_matter(tmp_path):
    assert _read(tmp_path, "---\nIn short\n\n---\nmore\n").text == "In short\n\nmore"


@pytest.mark.parametrize("markdown", ["", "\ufeff \n\n", "<!-- only a comment -->\n", "---\ntitle: x\n---\n"])
def test_a_file_without_text_is_skipped_with_a_reason(tmp_path, markdown):
    (tmp_path / "a.md").write_text(markdown, encoding="utf-8")
    log = ReadLog()
    assert list(read_documents(tmp_path / "a.md", log=log)) == []
    assert log.counts == {"the file has no text": 1}
    assert log.skipped[0].document_id == "a.md"
