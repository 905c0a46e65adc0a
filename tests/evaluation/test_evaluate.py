import numpy as np
import pytest

from crosstune.errors import ConfigError
from crosstune.evaluation import HEADLINE, ceiling, compare, evaluate, holm, per_query
from crosstune.types import Candidate, Run, ScoreKind

QUERY_IDS = [f"q{index}" for index in range(8)]
QRELS = {query_id: {"a": 1} for query_id in QUERY_IDS}
GROUPS = {query_id: query_id for query_id in QUERY_IDS}


def run_with_ranks(name, ranks, depth=5):
    """Run in which the relevant passage of query i stands at ranks[i], or is missing for None."""
    candidates = {}
    for query_id, rank in zip(QUERY_IDS, ranks, strict=True):
        order = ["x", "y", "z", "v", "w"][: depth - (rank is not None)]
        if rank is not None:
            order.insert(rank - 1, "a")
        candidates[query_id] = tuple(Candidate(p, float(-i), i + 1) for i, p in enumerate(order))
    return Run(name, depth, ScoreKind.LEXICAL, candidates)


BEFORE = run_with_ranks("before", [2, 2, 2, 2, 1, 1, 4, None])
AFTER = run_with_ranks("after", [1, 1, 1, 1, 1, 2, 1, None])
REPORT = evaluate([BEFORE, AFTER], QRELS, QUERY_IDS, GROUPS, [("before", "after")], depth=5)


def test_table_has_a_row_for_each_ranking_in_order_with_means_by_hand():
    before, after = REPORT.table
    assert (before.name, after.name) == ("before", "after")
    assert list(before.measures) == ["nDCG@10", "RR@10", "AP", "Success@1", "R@5", "Judged@10"]
    # RR before: four at 1/2, two at 1, one at 1/4, one miss: 4.25 / 8. After: six at 1, one at 1/2, one miss.
    assert before.measures["RR@10"].mean == pytest.approx(4.25 / 8)
    assert after.measures["RR@10"].mean == pytest.approx(6.5 / 8)
    assert before.measures["Success@1"].mean == 2 / 8
    assert before.measures["R@5"].mean == after.measures["R@5"].mean == 7 / 8
    # One of five candidates is judged, where it was found.
    assert before.measures["Judged@10"].mean == pytest.approx(7 * 0.2 / 8)
    assert after.measures["RR@10"].n == 8


def test_every_figure_has_an_interval_around_it():
    for row in REPORT.table:
        for estimate in row.measures.values():
            assert 0 <= estimate.ci_low <= estimate.mean <= estimate.ci_high <= 1
    assert REPORT.table[0].measures["RR@10"].ci_low < REPORT.table[0].measures["RR@10"].ci_high


def test_per_query_values_stand_under_row_measure_and_query():
    assert REPORT.per_query["before"]["RR@10"] == dict(
        zip(QUERY_IDS, [0.5, 0.5, 0.5, 0.5, 1.0, 1.0, 0.25, 0.0], strict=True)
    )


def test_comparison_is_paired_on_the_headline():
    (comparison,) = REPORT.comparisons
    assert (comparison.measure, comparison.baseline, comparison.candidate) == (HEADLINE, "before", "after")
    assert (comparison.wins, comparison.ties, comparison.losses) == (5, 2, 1)
    # nDCG is 1, 0.6309, 0.4307 at ranks 1, 2, 4: 4 x 0.3691 - 0.3691 + 0.5693 = 1.6766, over 8.
    assert comparison.delta.mean == pytest.approx(1.6766 / 8, abs=1e-4)


def test_holm_is_over_all_comparisons_shown():
    third = run_with_ranks("third", [3, 3, 3, 3, 3, 3, 3, 3])
    pairs = [("before", "after"), ("third", "after"), ("before", "third")]
    report = evaluate([BEFORE, AFTER, third], QRELS, QUERY_IDS, GROUPS, pairs, depth=5)
    raw = [comparison.p_value for comparison in report.comparisons]
    assert [comparison.p_holm for comparison in report.comparisons] == holm(raw)
    assert raw[0] == REPORT.comparisons[0].p_value
    assert report.comparisons[0].p_holm > raw[0]
    assert [(c.baseline, c.candidate) for c in report.comparisons] == pairs


def test_groups_reach_the_statistics():
    groups = {query_id: str(index // 2) for index, query_id in enumerate(QUERY_IDS)}
    report = evaluate([BEFORE, AFTER], QRELS, QUERY_IDS, groups, [("before", "after")], depth=5)
    values = [per_query(run, QRELS, QUERY_IDS, [HEADLINE])[HEADLINE] for run in (BEFORE, AFTER)]
    expected = compare(HEADLINE, "before", "after", *values, list(groups.values()))
    assert report.comparisons[0].p_value == expected.p_value != REPORT.comparisons[0].p_value


def test_equal_seeds_give_equal_reports():
    again = evaluate([BEFORE, AFTER], QRELS, QUERY_IDS, GROUPS, [("before", "after")], depth=5)
    other = evaluate([BEFORE, AFTER], QRELS, QUERY_IDS, GROUPS, [("before", "after")], depth=5, seed=1)
    assert again == REPORT
    assert other != REPORT


def test_ceiling_puts_what_was_found_first_and_adds_nothing():
    best = ceiling(BEFORE, QRELS, "ceiling")
    assert [best.candidates[q][0].passage_id for q in QUERY_IDS] == ["a"] * 7 + ["x"]
    for query_id in QUERY_IDS:
        assert {c.passage_id for c in best.candidates[query_id]} == {c.passage_id for c in BEFORE.candidates[query_id]}
        assert [c.rank for c in best.candidates[query_id]] == [1, 2, 3, 4, 5]
    report = evaluate([BEFORE, best], QRELS, QUERY_IDS, GROUPS, [], depth=5)
    assert report.table[1].measures[HEADLINE].mean == 7 / 8


def test_ceiling_orders_by_grade_and_no_reranking_beats_it():
    rng = np.random.default_rng(3)
    # Found for q0: x, a, y, z, v.
    qrels = {"q0": {"v": 3, "x": 1, "y": 0, "z": 2, "not found": 3}}
    best = ceiling(BEFORE, qrels, "ceiling")
    assert [c.passage_id for c in best.candidates["q0"]] == ["v", "z", "x", "y", "a"]
    top = per_query(best, qrels, ["q0"], [HEADLINE])[HEADLINE][0]
    passage_ids = [c.passage_id for c in BEFORE.candidates["q0"]]
    for _ in range(50):
        order = rng.permutation(passage_ids)
        other = Run("r", 5, ScoreKind.LOGIT, {"q0": tuple(Candidate(p, -i, i) for i, p in enumerate(order))})
        assert per_query(other, qrels, ["q0"], [HEADLINE])[HEADLINE][0] <= top + 1e-12


def test_rows_of_one_name_are_refused():
    with pytest.raises(ConfigError, match='two rankings are named "before"'):
        evaluate([BEFORE, BEFORE], QRELS, QUERY_IDS, GROUPS, [], depth=5)


def test_rows_of_another_depth_are_refused():
    with pytest.raises(ConfigError, match=r'"before" has depth 5 .* the table has depth 10'):
        evaluate([BEFORE], QRELS, QUERY_IDS, GROUPS, [], depth=10)
    deeper = Run("deeper", 3, ScoreKind.LEXICAL, BEFORE.candidates)
    with pytest.raises(ConfigError, match='"deeper" has depth 3 and up to 5 candidates'):
        evaluate([deeper], QRELS, QUERY_IDS, GROUPS, [], depth=3)


def test_a_comparison_with_a_missing_row_is_refused():
    with pytest.raises(ConfigError, match='names the row "dense", which is not one of: before'):
        evaluate([BEFORE], QRELS, QUERY_IDS, GROUPS, [("dense", "before")], depth=5)


def test_a_query_without_group_is_refused():
    groups = {query_id: query_id for query_id in QUERY_IDS[1:]}
    with pytest.raises(ConfigError, match='1 evaluated queries have no group, the first is "q0"'):
        evaluate([BEFORE], QRELS, QUERY_IDS, groups, [], depth=5)


def test_an_empty_test_set_is_refused():
    with pytest.raises(ConfigError, match="no questions to evaluate"):
        evaluate([BEFORE], QRELS, [], GROUPS, [], depth=5)
