import math

import pytest

from crosstune.report import pick_examples, pick_unjudged
from crosstune.report.examples import SNIPPET_CHARACTERS, snippet
from crosstune.types import Candidate, Run, ScoreKind


def test_wins_and_losses_are_sorted_by_size_and_ties_left_out(evaluation, runs, collection):
    wins, losses = pick_examples(evaluation, *runs, collection)
    # q3 rises from rank 3 to 1: 1 - 1 / log2(4) = 0.5. q1 from 2 to 1: 1 - 1 / log2(3) = 0.369. q2 falls so
    # far.
    assert [example.query_id for example in wins] == ["q3", "q1"]
    assert [example.delta for example in wins] == pytest.approx([0.5, 1 - 1 / math.log2(3)])
    assert [(example.query_id, round(example.delta, 3)) for example in losses] == [("q2", -0.369)]


def test_no_more_than_asked_for(evaluation, runs, collection):
    wins, losses = pick_examples(evaluation, *runs, collection, n=1)
    assert [example.query_id for example in wins] == ["q3"]
    assert len(losses) == 1


def test_rankings_show_five_passages_with_their_judgments(evaluation, runs, collection):
    wins, _ = pick_examples(evaluation, *runs, collection)
    best = wins[0]
    assert best.question.startswith("Question q3?")
    assert (best.baseline.name, best.candidate.name) == ("bm25", "tuned")
    assert [p.passage_id for p in best.baseline.top] == ["p7", "p8", "p3", "p9", "p10"]
    assert [p.relevance for p in best.baseline.top] == [0, None, 1, None, None]
    assert [p.rank for p in best.candidate.top] == [1, 2, 3, 4, 5]
    assert (best.baseline.first_relevant_rank, best.candidate.first_relevant_rank) == (3, 1)


def test_a_question_without_ranking_shows_an_empty_one(evaluation, runs, collection):
    nothing = Run("bm25", 10, ScoreKind.LEXICAL, {})
    wins, _ = pick_examples(evaluation, nothing, runs[1], collection)
    assert wins[0].baseline.top == ()
    assert wins[0].baseline.first_relevant_rank is None


def test_unjudged_passages_come_best_rank_first_one_for_each_question(runs, collection):
    found = pick_unjudged(runs[1], collection, ["q1", "q2", "q3", "q4", "q5"])
    # First unjudged: q4 has p7 at rank 1, q5 p7 at rank 2 (own answer first), q1 to q3 p8 after answer and
    # p7.
    assert [(u.query_id, u.passage_id, u.rank) for u in found] == [
        ("q4", "p7", 1),
        ("q5", "p7", 2),
        ("q1", "p8", 3),
        ("q2", "p8", 3),
        ("q3", "p8", 3),
    ]
    assert [u.query_id for u in pick_unjudged(runs[1], collection, ["q1", "q4", "q5"], n=2)] == ["q4", "q5"]


def test_of_equal_ranks_the_surest_comes_first(collection):
    candidates = {"q1": (Candidate("p8", 1.0, 1),), "q2": (Candidate("p9", 7.0, 1),)}
    found = pick_unjudged(Run("tuned", 10, ScoreKind.LOGIT, candidates), collection, ["q1", "q2"])
    assert [u.query_id for u in found] == ["q2", "q1"]


def test_judged_passages_are_not_listed(runs, collection):
    collection.qrels["q5"].update(dict.fromkeys(("p7", "p8", "p9", "p10", "p11", "p12"), 0))
    assert pick_unjudged(runs[1], collection, ["q5"]) == ()


def test_snippets_are_one_line_cut_between_words():
    assert snippet(" two\n  words ") == "two words"
    long = snippet("word " * 100)
    assert len(long) <= SNIPPET_CHARACTERS
    assert long.endswith("word…")
    assert snippet("x" * SNIPPET_CHARACTERS) == "x" * SNIPPET_CHARACTERS


def test_text_without_blanks_is_cut_too():
    assert snippet("糖尿病" * 100) == ("糖尿病" * 100)[: SNIPPET_CHARACTERS - 1] + "…"
