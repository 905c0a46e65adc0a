"""Scores worked out by hand, and the cases that a lexical index meets in real data."""

import csv
import math
from pathlib import Path

import pytest

from crosstune.language import detect_language, language_of
from crosstune.retrieval import BM25
from crosstune.types import Passage, Query, ScoreKind

DATA = Path(__file__).resolve().parents[2] / "../shared/data"


def passages(*texts, title=""):
    return {f"p{i}": Passage(f"p{i}", text, title) for i, text in enumerate(texts)}


def ranking(index, text, depth=10):
    return index.retrieve([Query("q", text)], depth).candidates["q"]


def test_scores_by_hand():
    # Lengths 2, 4, 2: mean 8/3. "red" is in 2 of 3: idf = ln(1 + (3 - 2 + 0.5) / (2 + 0.5)) = ln 1.6.
    # Lucene: idf * tf / (tf + k1 (1 - b + b length / mean)), k1 1.2, b 0.75:
    #   p0: tf 1, 1.2 (0.25 + 0.75 * 0.75) = 0.975 -> ln 1.6 / 1.975
    #   p1: tf 2, 1.2 (0.25 + 0.75 * 1.5) = 1.65 -> ln 1.6 * 2 / 3.65
    index = BM25(passages("red cat", "red red dog house", "green dog"), language_of("und"))
    run = index.retrieve([Query("q", "red")], 10)
    found = run.candidates["q"]
    assert (run.name, run.depth, run.score_kind) == ("bm25", 10, ScoreKind.LEXICAL)
    assert [c.passage_id for c in found] == ["p1", "p0"]  # p2 shares no word: no candidate
    assert found[0].score == pytest.approx(math.log(1.6) * 2 / 3.65, rel=1e-6)
    assert found[1].score == pytest.approx(math.log(1.6) / 1.975, rel=1e-6)
    # A word asked for twice counts twice, and words add up: "cat" is in 1 of 3, idf = ln(1 + 2.5 / 1.5).
    assert ranking(index, "red red cat")[0].score == pytest.approx(
        (2 * math.log(1.6) + math.log(1 + 2.5 / 1.5)) / 1.975, rel=1e-6
    )


def test_equal_scores_keep_corpus_order_and_the_cut_is_exact():
    index = BM25(passages(*["same words"] * 5, "other thing"), language_of("und"))
    assert [c.passage_id for c in ranking(index, "words", depth=3)] == ["p0", "p1", "p2"]


def test_title_is_searched():
    assert ranking(BM25(passages("text", title="Heading"), language_of("und")), "heading")


def test_question_of_stop_words_only_is_still_answered():
    index = BM25(passages("refund policy", "what is it"), language_of("en"))
    assert [c.passage_id for c in ranking(index, "What is it?")] == ["p1"]
    assert [c.passage_id for c in ranking(index, "What is the refund?")] == ["p0"]


@pytest.mark.parametrize("texts", [[""], ["?!", ""], ["the of and"]])
def test_corpus_without_a_single_term(texts):
    assert ranking(BM25(passages(*texts), language_of("en")), "refund") == ()


def test_empty_passages_and_empty_questions():
    index = BM25(passages("", "refund", ""), language_of("en"))
    assert [c.passage_id for c in ranking(index, "refunds")] == ["p1"]
    assert ranking(index, "") == ()


def test_chinese_finds_by_character_pairs():
    texts = ("糖尿病的治疗主要有饮食", "高血压的药物")
    index = BM25(passages(*texts), detect_language(texts))
    assert ranking(index, "高血压怎么办")[0].passage_id == "p1"


@pytest.mark.slow
@pytest.mark.parametrize(("folder", "published"), [("azure-faq", 0.552), ("zh-medical", 0.15)])
def test_real_data_is_ranked_about_as_well_as_published(folder, published):
    """Recall@1 of a question's own answers among all answers, beside the figure in the data's README."""
    path = DATA / folder / "qa.csv"
    if not path.exists():
        pytest.skip(f"{folder} of the shared data is not here")
    with path.open(encoding="utf-8-sig", newline="") as file:
        rows = [(row["Question"], row["Answer"]) for row in csv.DictReader(file)]
    answers = {answer: f"p{i}" for i, answer in enumerate(dict.fromkeys(a for _, a in rows))}
    own = {}
    for question, answer in rows:
        own.setdefault(question, set()).add(answers[answer])
    index = BM25({pid: Passage(pid, text) for text, pid in answers.items()}, detect_language(list(answers)))
    run = index.retrieve([Query(question, question) for question in own], 1)
    hits = sum(bool(found) and found[0].passage_id in own[q] for q, found in run.candidates.items())
    assert hits / len(own) == pytest.approx(published, abs=0.03)
