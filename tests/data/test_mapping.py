"""Answers of a file to passages of an index: each kind of match, and what must not match."""

from itertools import pairwise

import pytest

from crosstune.data import Match, map_answers
from crosstune.language import language_of
from crosstune.types import Origin, Passage

REFUND = "You can send back any router within 30 days of delivery, as long as it is in its box."
MOVE = "When you move house we take your line with you for free if you tell us five working days before."
LONG = (
    "Open the settings page of the router and choose wireless. Change the name and the password of the network, "
    "then save. All of your devices will ask for the new password when they connect the next time."
)
ENGLISH = language_of("en")


def index_of(*texts, document=None):
    return {
        f"i{n}": Passage(f"i{n}", text, origin=None if document is None else Origin(document, n, 0, len(text)))
        for n, text in enumerate(texts)
    }


def found(answer, passages):
    mapped = map_answers({"a": Passage("a", answer)}, passages, ENGLISH)
    return mapped.matches.get("a"), mapped.passage_ids.get("a", ())


def test_equal_up_to_case_and_punctuation_wherever_it_stands_twice():
    assert found(REFUND.upper(), index_of(MOVE, REFUND, f"  {REFUND[:-1]}!")) == (Match.EXACT, ("i1", "i2"))


def test_equal_to_title_and_text():
    passages = {"i": Passage("i", "within 30 days", title="Refunds")}
    assert found("Refunds: within 30 days", passages) == (Match.EXACT, ("i",))


def test_an_answer_inside_a_passage():
    assert found(REFUND, index_of(MOVE, f"Returns. {REFUND} Ask us for a label.")) == (Match.CONTAINED, ("i1",))


def test_an_answer_cut_into_passages_and_one_of_which_only_a_piece_is_there():
    cuts = [0, LONG.index("Change"), LONG.index("All of"), len(LONG)]
    pieces = [LONG[start:end] for start, end in pairwise(cuts)]
    assert found(LONG, index_of(*pieces, MOVE, document="router.md")) == (Match.SPREAD, ("i0", "i1", "i2"))
    assert found(LONG, index_of(pieces[0], MOVE, document="router.md")) == (None, ())


def test_a_short_text_inside_another_proves_nothing():
    # 38 characters when normalised, under the 40 asked for.
    short = "we take your line with you for free ok"
    assert found(short, index_of(f"{MOVE} {short}")) == (None, ())


def test_reworded_a_little_but_with_the_same_numbers():
    assert found(REFUND.replace("any router", "a router"), index_of(MOVE, REFUND)) == (Match.SIMILAR, ("i1",))
    assert found(REFUND.replace("30", "60"), index_of(MOVE, REFUND)) == (None, ())
    assert found("Bring your old router to a shop and get a voucher for the next one.", index_of(REFUND)) == (None, ())


def test_spread_over_passages_of_one_document_and_not_of_two():
    middle = LONG.index("name and")
    halves = [f"The router. {LONG[:middle]}", f"{LONG[middle:]} This takes about a minute in most homes."]
    assert found(LONG, index_of(*halves, MOVE, document="router.md")) == (Match.SPREAD, ("i0", "i1"))
    apart = {
        **index_of(halves[0], document="router.md"),
        "i1": Passage("i1", halves[1], origin=Origin("other.md", 0, 0, 9)),
    }
    assert found(LONG, apart) == (None, ())
    assert found(LONG, index_of(*halves)) == (None, ())  # of no known document


def test_scripts_without_blanks():
    answer = "您可以在收到路由器之后的三十天之内申请退货退款前提是路由器必须完好无损并且放在原来的包装盒里面寄回"
    mapped = map_answers({"a": Passage("a", answer)}, index_of(f"退货说明{answer}谢谢"), language_of("zh"))
    assert mapped.matches == {"a": Match.CONTAINED}


def test_counts_and_order_of_what_is_missing():
    answers = {"a": Passage("a", REFUND), "b": Passage("b", "nothing like it"), "c": Passage("c", "nor this")}
    mapped = map_answers(answers, index_of(REFUND), ENGLISH)
    assert mapped.unmapped == ("b", "c")
    assert mapped.counts() == {"exact": 1, "contained": 0, "similar": 0, "spread": 0, "unmapped": 2}


@pytest.mark.parametrize("passages", [{}, index_of("")])
def test_an_empty_index_holds_nothing(passages):
    assert found(REFUND, passages) == (None, ())


def test_a_long_answer_cut_into_many_passages_among_others_like_it():
    sentences = [f"Step {n} of the long way: turn screw {n * 37} until light {n * 91} is on." for n in range(27)]
    answer = " ".join(sentences)
    mine = index_of(*(" ".join(sentences[n : n + 1]) for n in range(len(sentences))), document="long.md")
    others = {
        f"o{n}": Passage(f"o{n}", text.replace("long", "short"), origin=Origin(f"other-{n % 7}.md", n, 0, 9))
        for n, text in enumerate(sentences)
    }
    assert found(answer, {**others, **mine}) == (Match.SPREAD, tuple(mine))
