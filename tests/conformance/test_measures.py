"""Every measure agrees with trec_eval, is 1 for the ideal ranking, 0 for none, and gives nothing for ties."""

import math
from itertools import permutations

import numpy as np
import pytest
import pytrec_eval

from crosstune.errors import ConfigError
from crosstune.evaluation import measures_for, per_query
from crosstune.types import Candidate, Run, ScoreKind

TREC_NAMES = {
    "nDCG@10": "ndcg_cut_10",
    "AP": "map",
    "Success@1": "success_1",
    "R@5": "recall_5",
    "R@20": "recall_20",
}


def run_of(scores):
    """Run from query_id -> passage_id -> score, best first."""
    candidates = {
        query_id: tuple(
            Candidate(pid, score, rank + 1)
            for rank, (pid, score) in enumerate(sorted(row.items(), key=lambda item: -item[1]))
        )
        for query_id, row in scores.items()
    }
    return Run("made up", 20, ScoreKind.LOGIT, candidates)


def ranked(*passage_ids):
    return run_of({"q": {pid: float(-rank) for rank, pid in enumerate(passage_ids)}})


def value(measure, run, judgments):
    return per_query(run, {"q": judgments}, ["q"], [measure])[measure][0]


@pytest.fixture(scope="module")
def random_data():
    rng = np.random.default_rng(7)
    scores, qrels = {}, {}
    for q in range(60):
        retrieved = rng.choice(40, size=20, replace=False)
        # A permutation of whole numbers: no ties, for the oracle breaks them its own way.
        scores[f"q{q}"] = {f"p{pid}": float(s) for pid, s in zip(retrieved, rng.permutation(20), strict=True)}
        judged = rng.choice(40, size=12, replace=False)
        qrels[f"q{q}"] = {f"p{pid}": int(rng.integers(0, 4)) for pid in judged} | {f"p{judged[0]}": 1}
    return scores, qrels


@pytest.mark.parametrize("measure", TREC_NAMES)
def test_agrees_with_trec_eval_on_random_runs(measure, random_data):
    scores, qrels = random_data
    oracle = pytrec_eval.RelevanceEvaluator(qrels, set(TREC_NAMES.values())).evaluate(scores)
    ours = per_query(run_of(scores), qrels, list(qrels), [measure])[measure]
    expected = [oracle[query_id][TREC_NAMES[measure]] for query_id in qrels]
    assert len(set(expected)) > 1
    np.testing.assert_allclose(ours, expected, atol=1e-12)


def test_reciprocal_rank_agrees_with_trec_eval_on_the_first_ten(random_data):
    scores, qrels = random_data
    first_ten = {q: dict(sorted(row.items(), key=lambda x: -x[1])[:10]) for q, row in scores.items()}
    oracle = pytrec_eval.RelevanceEvaluator(qrels, {"recip_rank"}).evaluate(first_ten)
    ours = per_query(run_of(scores), qrels, list(qrels), ["RR@10"])["RR@10"]
    np.testing.assert_allclose(ours, [oracle[q]["recip_rank"] for q in qrels], atol=1e-12)


def test_judged_counts_judged_passages_of_any_relevance_among_the_first_ten(random_data):
    scores, qrels = random_data
    expected = [
        sum(pid in qrels[q] for pid, _ in sorted(scores[q].items(), key=lambda x: -x[1])[:10]) / 10 for q in qrels
    ]
    ours = per_query(run_of(scores), qrels, list(qrels), ["Judged@10"])["Judged@10"]
    np.testing.assert_allclose(ours, expected)


def test_table_measures_start_with_the_headline_and_name_each_cutoff_once():
    assert measures_for(50) == ("nDCG@10", "RR@10", "AP", "Success@1", "R@5", "R@50", "Judged@10")
    assert measures_for(5) == ("nDCG@10", "RR@10", "AP", "Success@1", "R@5", "Judged@10")


@pytest.mark.parametrize("measure", measures_for(20))
def test_ideal_ranking_is_one_and_none_is_zero(measure):
    judgments = {"a": 2, "b": 1, "c": 0}
    # Judged@10 asks for judged passages: in the second ranking nobody judged any, elsewhere none is relevant.
    assert value(measure, ranked("a", "b", "c"), judgments) == pytest.approx(1)
    assert value(measure, ranked("x", "y", "z"), judgments) == 0


@pytest.mark.parametrize("measure", measures_for(20))
def test_a_query_without_ranking_counts_as_zero(measure):
    qrels = {"q": {"a": 1}, "missing": {"a": 1}, "empty": {"a": 1}}
    run = Run("r", 20, ScoreKind.LOGIT, {"q": (Candidate("a", 1.0, 1),), "empty": ()})
    assert per_query(run, qrels, ["missing", "q", "empty"], [measure])[measure].tolist() == [0, 1, 0]
    nothing = Run("r", 20, ScoreKind.LOGIT, {})
    assert per_query(nothing, qrels, list(qrels), [measure])[measure].tolist() == [0, 0, 0]


def test_a_relevant_passage_that_was_not_found_counts_in_the_ideal():
    # Two relevant, one found, placed first: DCG = 1 / log2(2) = 1; the ideal from the judgments is
    # 1 / log2(2) + 1 / log2(3) = 1.6309, so nDCG = 0.6131. The common library evaluator reports 1.0.
    judgments = {"found": 1, "not retrieved": 1}
    assert value("nDCG@10", ranked("found", "x", "y"), judgments) == pytest.approx(0.6131, abs=5e-5)
    assert value("R@5", ranked("found", "x"), judgments) == 0.5
    assert value("AP", ranked("found", "x"), judgments) == 0.5


def test_gain_is_linear():
    # Relevance 1 before 3: DCG = 1 + 3 / log2(3) = 2.8928; ideal = 3 + 1 / log2(3) = 3.6309.
    expected = (1 + 3 / math.log2(3)) / (3 + 1 / math.log2(3))
    assert value("nDCG@10", ranked("b", "a"), {"a": 3, "b": 1}) == pytest.approx(expected)
    assert expected == pytest.approx(0.7967, abs=5e-5)


def test_rank_four_by_hand():
    # Relevant at rank 4: nDCG = 1 / log2(5) = 0.4307, RR = 1/4, Success@1 = 0.
    run = ranked("x", "y", "z", "a")
    assert value("nDCG@10", run, {"a": 1}) == pytest.approx(0.4307, abs=5e-5)
    assert value("RR@10", run, {"a": 1}) == 0.25
    assert value("Success@1", run, {"a": 1}) == 0


@pytest.mark.parametrize("score", [0.5, math.nan])
@pytest.mark.parametrize("measure", measures_for(20))
def test_a_constant_run_gets_the_worst_value_any_order_could_have(measure, score):
    judgments = {"a": 2, "b": 1, "c": 0}
    passages = ["a", "b", "c", "x", "y"]
    orders = [value(measure, ranked(*order), judgments) for order in permutations(passages)]
    run = run_of({"q": dict.fromkeys(passages, score)})
    assert value(measure, run, judgments) == pytest.approx(min(orders))
    # With five passages every order has the same R@5, R@20 and Judged@10; the other measures must discern.
    assert (max(orders) > min(orders)) == (measure in {"nDCG@10", "RR@10", "AP", "Success@1"})


def test_worst_order_puts_unjudged_passages_before_judged_ones():
    # 12 equal scores, 10 places: the 10 unjudged fill them.
    run = run_of({"q": dict.fromkeys(["a", "c", *(f"x{i}" for i in range(10))], 1.0)})
    assert value("Judged@10", run, {"a": 1, "c": 0}) == 0


def test_one_nan_makes_the_whole_query_a_tie():
    run = run_of({"q": {"a": 9.0, "x": math.nan, "y": 1.0}})
    assert value("RR@10", run, {"a": 1}) == pytest.approx(1 / 3)


def test_scores_decide_and_not_the_position_in_the_run():
    run = Run("r", 20, ScoreKind.LOGIT, {"q": (Candidate("x", 1.0, 1), Candidate("a", 2.0, 2))})
    assert value("RR@10", run, {"a": 1}) == 1


def test_values_come_in_the_order_of_the_query_ids(random_data):
    scores, qrels = random_data
    forward = per_query(run_of(scores), qrels, list(qrels), ["AP"])["AP"]
    backward = per_query(run_of(scores), qrels, list(qrels)[::-1], ["AP"])["AP"]
    assert forward.tolist() == backward[::-1].tolist()


def test_a_query_that_nobody_judged_is_refused_and_not_averaged_in():
    with pytest.raises(ConfigError, match=r'1 of 2 queries have no relevant passage .* "q2"'):
        per_query(ranked("a"), {"q": {"a": 1}, "q2": {"a": 0}}, ["q", "q2"], ["AP"])


def test_a_passage_listed_twice_is_refused():
    run = Run("twice", 20, ScoreKind.LOGIT, {"q": (Candidate("a", 2.0, 1), Candidate("a", 1.0, 2))})
    with pytest.raises(ConfigError, match='"twice", query "q": a passage is listed more than once'):
        per_query(run, {"q": {"a": 1}}, ["q"], ["AP"])


def test_a_query_listed_twice_is_refused():
    with pytest.raises(ConfigError, match="listed more than once"):
        per_query(ranked("a"), {"q": {"a": 1}}, ["q", "q"], ["AP"])


@pytest.mark.parametrize("name", ["bogus", "nDCG@", ""])
def test_an_unknown_measure_is_refused(name):
    with pytest.raises(ConfigError, match=f'measure "{name}" is not known'):
        per_query(ranked("a"), {"q": {"a": 1}}, ["q"], [name])
