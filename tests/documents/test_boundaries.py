import pytest

from crosstune.documents.boundaries import best_cut, cut_inside_word, first_start, skip_blanks


def _cut(text, limit=None):
    """The text before the cut, of a text that goes on behind the limit."""
    limit = len(text) if limit is None else limit
    cut = best_cut(text + " and so on", 0, limit)
    return None if cut is None else text[:cut].rstrip()


@pytest.mark.parametrize(
    ("text", "before"),
    [
        # A paragraph that ends in the second half wins over a sentence, and that over a line or a word.
        ("One two. Three four\n\nfive six. Seven", "One two. Three four"),
        ("One two. Three four\n \nfive six. Seven", "One two. Three four"),
        ("One\n\ntwo three four five. Six seven", "One\n\ntwo three four five."),
        ("One. Two three four five six\nseven eight", "One. Two three four five six"),
        ("One two three four five six seven eight", "One two three four five six seven"),
        # A sentence end before a quarter does not count.
        ("No. Two three four five six seven eight", "No. Two three four five six seven"),
        # Full stops that end no sentence.
        ("The shop e.g. in Rome, ca. five people", "The shop e.g. in Rome, ca. five"),
        ("It was written by J. Smithers in a while", "It was written by J. Smithers in a"),
        ("Take 3.5 l of it", "Take 3.5 l of"),
        # Other signs, closing quotes and brackets.
        ('Did he say "Yes!" Then it is all right', 'Did he say "Yes!"'),
        ("Is that so?! (I think so.) Well, well", "Is that so?! (I think so.)"),
        ("क्या यह सही है। हाँ यह सही है", "क्या यह सही है।"),
        ("كم السعر؟ السعر عشرة", "كم السعر؟"),
    ],
)
def test_the_best_place_wins(text, before):
    # The limit is inside of the last word.
    assert _cut(text, len(text) - 1) == before


def test_a_place_at_the_limit_will_do():
    assert best_cut("alpha beta gamma", 0, 10) == 10
    assert best_cut("alpha beta gamma", 0, 9) == 5
    assert best_cut("alpha.\n\nbeta", 0, 6) == 6


def test_no_place_inside_a_word():
    assert best_cut("alphabet soup", 0, 7) is None
    assert best_cut("soup alphabet", 5, 10) is None


@pytest.mark.parametrize(
    ("text", "limit", "before"),
    [
        ("我们三十天内退款。请保留收据，谢谢", 12, "我们三十天内退款。"),
        ("他说「可以退款。」然后他就走了吧", 12, "他说「可以退款。」"),
        ("我们三十天内退款请保留收据", 6, "我们三十天内"),
        ("我们三十天内，退款请保留收据", 6, "我们三十天"),  # no comma at the start of a passage
        ("使用Python语言编写程序", 5, "使用"),  # a Latin word stays whole
        ("ราคาสินค้า รวมภาษีแล้ว", 14, "ราคาสินค้า"),  # a blank marks a phrase in Thai
        ("ที่นี่", 3, "ที่"),
        ("ที่นี่", 2, None),  # a vowel sign and a tone mark belong to their letter
    ],
)
def test_scripts_without_blanks(text, limit, before):
    cut = best_cut(text + "。", 0, limit)
    assert (None if cut is None else text[:cut].rstrip()) == before


def test_a_long_word_is_cut_between_characters():
    assert cut_inside_word("abcdefgh", 2, 5) == 5
    assert cut_inside_word("abcdefgh", 2, 1) == 3  # at least one character
    assert cut_inside_word("cafe\u0301s", 0, 4) == 3  # before the letter that has the accent
    assert cut_inside_word("ab👩\u200d🔬cd", 0, 4) == 2
    assert cut_inside_word("\u0301\u0301\u0301", 0, 2) == 1


@pytest.mark.parametrize(
    ("low", "start"),
    [
        (1, "Gamma delta. Eps zeta\neta theta"),
        (13, "Gamma delta. Eps zeta\neta theta"),
        (14, "Eps zeta\neta theta"),
        (26, "Eps zeta\neta theta"),
        (27, "eta theta"),  # no sentence begins any more: a line
        (36, "theta"),  # nor a line: a word
        (40, None),
    ],
)
def test_the_first_start_is_that_of_a_sentence_where_there_is_one(low, start):
    text = "Alpha beta.  Gamma delta. Eps zeta\neta theta"
    found = first_start(text, low, len(text))
    assert (None if found is None else text[found:]) == start


def test_a_paragraph_starts_a_sentence():
    text = "Heading without a stop\n\nNext one"
    assert first_start(text, 10, len(text)) == text.index("Next")


def test_blanks_are_skipped_up_to_the_end():
    assert skip_blanks(" \n\u3000a", 0, 4) == 3
    assert skip_blanks("   ", 0, 2) == 2
