import math

import numpy as np
import pytest

from crosstune.errors import ConfigError
from crosstune.scoring import choose_weight, fuse, rerank
from crosstune.scoring.fusion import WEIGHTS, standardised
from crosstune.types import Candidate, Run, ScoreKind


def run(**queries):
    return Run("bm25", 10, ScoreKind.LEXICAL, {
        query_id: tuple(Candidate(pid, score, rank) for rank, (pid, score) in enumerate(found, start=1))
        for query_id, found in queries.items()
    })  # fmt: skip


class TestStandardised:
    def test_by_hand(self):
        # Mean 4, deviations -2, 0, 2; variance (4 + 0 + 4) / 3.
        spread = math.sqrt(8 / 3)
        np.testing.assert_allclose(standardised(np.array([2.0, 4.0, 6.0])), [-2 / spread, 0, 2 / spread])

    @pytest.mark.parametrize("scores", [[], [3.0], [0.1, 0.1, 0.1], [1e9, 1e9], [0.1 + 0.2, 0.3]])
    def test_equal_scores_are_all_zero(self, scores):
        assert standardised(np.array(scores)).tolist() == [0.0] * len(scores)

    def test_small_but_real_differences_stay(self):
        np.testing.assert_allclose(standardised(np.array([1e-9, -1e-9])), [1, -1])


class TestFuse:
    # Logits 1, 3 and first-stage scores 10, 0 standardise to -1, 1 and 1, -1.
    @pytest.mark.parametrize(("weight", "fused"), [(1.0, [-1, 1]), (0.0, [1, -1]), (0.5, [0, 0]), (0.7, [-0.4, 0.4])])
    def test_by_hand(self, weight, fused):
        np.testing.assert_allclose(fuse(np.array([1.0, 3.0]), np.array([10.0, 0.0]), weight), fused, atol=1e-12)


class TestRerank:
    def test_by_logits(self):
        first = run(q1=[("a", 9.0), ("b", 8.0), ("c", 7.0)], q2=[("d", 1.0)])
        found = rerank(first, {"q1": np.array([0.5, 2.0, 0.5]), "q2": np.array([-3.0])}, "tuned")
        assert (found.name, found.depth, found.score_kind) == ("tuned", 10, ScoreKind.LOGIT)
        # a and c are equal: they keep the first stage's order.
        assert found.candidates["q1"] == (
            Candidate("b", 2.0, 1),
            Candidate("a", 0.5, 2),
            Candidate("c", 0.5, 3),
        )
        assert found.candidates["q2"] == (Candidate("d", -3.0, 1),)

    def test_fused(self):
        first = run(q1=[("a", 10.0), ("b", 0.0)])
        found = rerank(first, {"q1": np.array([1.0, 3.0])}, "both", weight=0.7)
        assert found.score_kind is ScoreKind.FUSED
        assert [(c.passage_id, c.rank) for c in found.candidates["q1"]] == [("b", 1), ("a", 2)]
        assert [c.score for c in found.candidates["q1"]] == pytest.approx([0.4, -0.4])
        assert [c.passage_id for c in rerank(first, {"q1": np.array([1.0, 3.0])}, "both", 0.3).candidates["q1"]] == [
            "a",
            "b",
        ]

    def test_a_question_without_candidates_stays_empty(self):
        assert rerank(run(q1=[]), {"q1": np.array([])}, "tuned").candidates == {"q1": ()}

    @pytest.mark.parametrize("logits", [{}, {"q1": np.array([1.0])}, {"q1": np.array([1.0, 2.0, 3.0])}])
    def test_not_one_logit_for_each_candidate(self, logits):
        with pytest.raises(ConfigError, match=r"'q1': 2 candidates but [013] logits"):
            rerank(run(q1=[("a", 1.0), ("b", 0.0)]), logits, "tuned")


class TestChooseWeight:
    def test_the_best(self):
        assert choose_weight(lambda weight: 1 - abs(weight - 0.3)) == (0.3, 1.0)

    def test_of_equal_ones_the_nearest_to_the_middle(self):
        assert choose_weight(lambda weight: 0.5) == (0.5, 0.5)
        assert choose_weight(lambda weight: float(weight >= 0.8)) == (0.8, 1.0)
        assert choose_weight(lambda weight: float(weight <= 0.2)) == (0.2, 1.0)

    def test_of_two_as_near_the_smaller(self):
        assert choose_weight(lambda weight: float(weight in (0.4, 0.6))) == (0.4, 1.0)

    def test_every_tenth_is_tried(self):
        tried = []
        choose_weight(lambda weight: tried.append(weight) or 0.0)
        assert tried == [0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0] == list(WEIGHTS)
