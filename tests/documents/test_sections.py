import pytest

from crosstune.documents import Document, Heading
from crosstune.documents.sections import fitted_title, sections


def _document(text, title=""):
    """Lines of hash signs become headings, with the signs taken off."""
    plain, headings = "", []
    for line in text.split("\n"):
        marks = len(line) - len(line.lstrip("#"))
        words = line[marks:].strip()
        if marks:
            headings.append(Heading(len(plain), marks, words))
        plain += words + "\n"
    return Document("d", plain, title, tuple(headings))


def _found(document):
    return [(" > ".join(s.path), document.text[s.start : s.end].strip()) for s in sections(document)]


def test_the_path_of_headings():
    document = _document("before\n# A\na\n## B\nb\n#### C\nc\n## D\nd\n# E\ne", title="T")
    assert _found(document) == [
        ("T", "before"),
        ("T > A", "a"),
        ("T > A > B", "b"),
        ("T > A > B > C", "c"),
        ("T > A > D", "d"),
        ("T > E", "e"),
    ]


def test_a_heading_with_nothing_below_is_a_text():
    document = _document("# A\n## B\n## C\nc\n# D\n")
    # "A" has sub-headings below it; "B" and "D" have nothing.
    assert _found(document) == [("A", "B"), ("A > C", "c"), ("", "D")]


def test_a_title_that_is_the_first_heading_again_counts_once():
    assert _found(_document("# The  Shop!\na\n## the shop\nb", title="The shop")) == [
        ("The shop", "a"),
        ("The shop", "b"),
    ]


def test_without_headings_all_is_one_section():
    assert _found(Document("d", " a\n\nb ")) == [("", "a\n\nb")]
    assert _found(Document("d", " \n ")) == []


@pytest.mark.parametrize(
    ("max_tokens", "title"),
    [
        (9, "Staff handbook > Returns > Exchanges of shoes"),  # 2 + 1 + 1 + 1 + 3 words with the arrows are 8
        (8, "Staff handbook > Returns > Exchanges of shoes"),
        (7, "Returns > Exchanges of shoes"),
        (4, "Exchanges of shoes"),
        (3, "Exchanges of shoes"),
        (2, "Exchanges"),  # a cut drops the word that it may have gone through
    ],
)
def test_a_title_is_shortened_from_the_left(words, max_tokens, title):
    assert fitted_title(("Staff handbook", "Returns", "Exchanges of shoes"), words, max_tokens) == title


def test_one_long_word_is_cut(characters):
    assert fitted_title(("abcdefgh",), characters, 5) == "abcde"
    assert fitted_title((), characters, 5) == ""
