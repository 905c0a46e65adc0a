from crosstune.documents import Heading
from crosstune.documents.builder import LINE, TextBuilder


def test_blocks_and_headings_stand_where_they_say():
    builder = TextBuilder()
    assert builder.add(" \n ") == 0  # nothing in it
    builder.add_heading("Ways  to\npay", 2)
    assert builder.add("\n\n  by card\n") == 13  # 11 characters of the heading and the empty line; indentation stays
    assert builder.add("by bill", LINE) == 23
    builder.add_heading(" ", 1)
    assert builder.text == "Ways to pay\n\n  by card\nby bill"
    assert builder.headings == [Heading(0, 2, "Ways to pay")]
    assert builder.add("") == len(builder.text)
