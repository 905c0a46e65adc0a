"""Filters of written questions, by hand and against comparing all with all."""

import random

import pytest

from crosstune.errors import ConfigError
from crosstune.llm import Dropped, SyntheticPair, near_duplicate_questions, round_trip


def pairs_of(*questions):
    return [SyntheticPair(question, "a", "factoid", f"p{place}") for place, question in enumerate(questions)]


def kept(*questions):
    return [pair.passage_id for pair in near_duplicate_questions(pairs_of(*questions)).kept]


def test_order_case_and_punctuation_do_not_make_a_question_new():
    filtered = near_duplicate_questions(pairs_of("When is it paid?", "Where is it?", "when it is paid"))
    assert [pair.question for pair in filtered.kept] == ["When is it paid?", "Where is it?"]
    assert [dropped.pair.passage_id for dropped in filtered.dropped] == ["p2"]
    assert filtered.dropped[0].reason == "says the same as an earlier question"


def test_the_threshold():
    base = "a b c d e f g h i j k l m n o p q"  # 17 words
    # 17 of 20 words is 0.85 exactly; 17 of 21 is less.
    assert kept(base, f"{base} r s t") == ["p0"]
    assert kept(base, f"{base} r s t u") == ["p0", "p1"]
    assert kept(f"{base} r s t", base) == ["p0"]


def test_other_numbers_make_another_question():
    text = "what does the big model with the number {} cost per month when two people share it at home"
    assert kept(text.format(30), text.format(60), text.format(30)) == ["p0", "p1"]


def test_scripts_without_blanks():
    # 13 characters, all different: one more makes 13/14, three others 10/16.
    question = "退款什么时候支付到我银行卡"
    assert kept(question, question + "上") == ["p0"]
    assert kept(question, question[:10] + "去哪里") == ["p0", "p1"]


def test_what_was_dropped_does_not_drop_others():
    words = [chr(97 + i) for i in range(20)]
    first, second, third = (" ".join(words[:n]) for n in (20, 18, 15))
    # 18/20 = 0.9 goes; 15/18 = 0.83 stays, and against the first it is 15/20.
    assert kept(first, second, third) == ["p0", "p2"]
    # 16/18 = 0.89 to the dropped one alone: 16/20 = 0.8 to the first.
    assert kept(first, second, " ".join(words[:16])) == ["p0", "p2"]


def test_it_finds_what_comparing_all_with_all_finds():
    chance = random.Random(3)
    questions = []
    for _ in range(40):
        base = chance.sample([f"{a}{b}" for a in "abcdefgh" for b in "xyz"], chance.randint(3, 20))
        questions += [" ".join(chance.sample(base, max(1, len(base) - chance.randint(0, 3)))) for _ in range(5)]
    expected = []
    for question in questions:
        words = set(question.split())
        if all(len(words & set(o.split())) / len(words | set(o.split())) < 0.85 for o in expected):
            expected.append(question)
    assert 40 < len(expected) < 190
    assert [pair.question for pair in near_duplicate_questions(pairs_of(*questions)).kept] == expected


def test_no_pairs():
    assert near_duplicate_questions([]).kept == ()
    assert round_trip([], lambda questions, depth: []).kept == ()


def test_a_question_must_find_its_passage():
    asked = []

    def retrieve(questions, depth):
        asked.append((list(questions), depth))
        return [["p0", "x"], ["x", "y", "p1"], ["x", "p2"], []]

    pairs = pairs_of("a", "b", "c", "d")
    filtered = round_trip(pairs, retrieve, depth=2)
    assert asked == [(["a", "b", "c", "d"], 2)]
    assert filtered.kept == (pairs[0], pairs[2])
    reason = "does not find its passage among the first 2"
    assert filtered.dropped == (Dropped(pairs[1], reason), Dropped(pairs[3], reason))


def test_round_trip_misuse():
    with pytest.raises(ConfigError, match="depth must be at least 1, found 0"):
        round_trip([], lambda questions, depth: [], depth=0)
    with pytest.raises(ValueError, match="shorter"):
        round_trip(pairs_of("a", "b"), lambda questions, depth: [["p0"]])
