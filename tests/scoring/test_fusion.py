import math

import numpy as np
import pytest

from crosstune.errors import ConfigError
from crosstune.scoring import fit_weights, fuse, reading_order, rerank, standardised, with_rest, with_unread
from crosstune.types import Candidate, Part, Reading, Run, ScoreKind

CROSS, BI, WORDS, FIRST = Part.CROSS_ENCODER, Part.BI_ENCODER, Part.LEXICAL, Part.FIRST_STAGE
PENALTY = 0.3


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


PARTS = {CROSS: np.array([1.0, 3.0]), WORDS: np.array([8.0, 0.0])}


class TestFuse:
    def test_by_hand(self):
        # 2 * 1 + 0.5 * 8 and 2 * 3 + 0.5 * 0
        assert fuse(PARTS, {CROSS: 2.0, WORDS: 0.5}).tolist() == [6.0, 6.0]

    def test_a_part_without_weight_does_not_count(self):
        assert fuse(PARTS, {WORDS: 0.5}).tolist() == [4.0, 0.0]
        assert fuse(PARTS, {}).tolist() == [0.0, 0.0]

    def test_a_weight_without_its_part_does_not_count(self):
        assert fuse(PARTS, {CROSS: 2.0, BI: 100.0}).tolist() == [2.0, 6.0]

    def test_the_parts_are_left_as_they_are(self):
        fuse(PARTS, {CROSS: 2.0, WORDS: 0.5})
        assert PARTS[CROSS].tolist() == [1.0, 3.0]

    def test_no_candidates(self):
        assert fuse({CROSS: np.empty(0), WORDS: np.empty(0)}, {CROSS: 1.0}).tolist() == []

    def test_no_parts(self):
        with pytest.raises(ConfigError, match="nothing to fuse"):
            fuse({}, {CROSS: 1.0})


class TestFitWeights:
    def test_one_part_and_one_question_by_hand(self):
        # The relevant of two candidates scores 5 more: 5 and 0, centred 2.5 and -2.5, spread 2.5, so 1 and -1 in units
        # of the spread. The loss ln(1 + exp(-2 v)) + 0.3 v^2 is least where 2 / (1 + exp(2 v)) = 0.6 v: at v = 0.68038,
        # where both are 0.40823.
        found = fit_weights({"q": {CROSS: np.array([5.0, 0.0])}}, {"q": np.array([True, False])})
        assert found == {CROSS: pytest.approx(0.68038 / 2.5, rel=1e-4)}

    def test_several_relevant_candidates_count_by_their_mean_by_hand(self):
        # Relevant 6 and 2, other 1: centred 3, -1, -2, spread sqrt(14 / 3). The loss is
        # ln(exp(3 w) + exp(-w) + exp(-2 w)) - (3 - 1) / 2 w + 0.3 * 14 / 3 w^2; at w = 0 its slope is 0 - 1.
        def slope(w):
            top, middle, low = math.exp(3 * w), math.exp(-w), math.exp(-2 * w)
            return (3 * top - middle - 2 * low) / (top + middle + low) - 1 + 2.8 * w

        found = fit_weights({"q": {CROSS: np.array([6.0, 2.0, 1.0])}}, {"q": np.array([True, True, False])})
        assert slope(0) == -1
        assert slope(found[CROSS] * 0.999) < 0 < slope(found[CROSS] * 1.001)

    def test_no_other_weights_do_better(self):
        """The penalised loss, written once more and plainly, is least at the weights found."""
        parts, relevant = made_up(60)
        found = fit_weights(parts, relevant)
        assert set(found) == {CROSS, BI, WORDS}
        assert list(found) == [CROSS, BI, WORDS]  # in the order given
        least = penalised_loss(found, parts, relevant)
        for part in found:
            for factor in (0.0, 0.5, 0.9, 0.98, 1.02, 1.1, 2.0):
                assert penalised_loss(found | {part: found[part] * factor}, parts, relevant) > least

    def test_the_loss_does_not_rise_or_fall_at_the_weights_found(self):
        parts, relevant = made_up(60)
        found = fit_weights(parts, relevant)
        for part, weight in found.items():
            step = 1e-4 * weight
            above, below = (penalised_loss(found | {part: weight + s}, parts, relevant) for s in (step, -step))
            slope = (above - below) / (2 * 1e-4)  # by the logarithm of the weight
            assert slope == pytest.approx(0, abs=0.01)

    def test_weights_that_made_the_labels_are_found_again(self):
        # 4000 questions drawn from a conditional logit with weights 2, 1 and 0.5: the penalty is lost among them.
        parts, relevant = made_up(4000)
        assert fit_weights(parts, relevant) == pytest.approx({CROSS: 2.0, BI: 1.0, WORDS: 0.5}, rel=0.12)

    def test_a_part_that_says_nothing_gets_no_weight(self):
        # Constant within each question, though not across them.
        parts, relevant = made_up(20)
        constant = {q: of_query | {FIRST: np.full(6, float(i))} for i, (q, of_query) in enumerate(parts.items())}
        assert fit_weights(constant, relevant) == pytest.approx(fit_weights(parts, relevant), rel=1e-3)

    def test_a_part_that_is_as_often_wrong_as_right_gets_no_weight(self):
        parts = {"q1": {CROSS: np.array([1.0, 0.0])}, "q2": {CROSS: np.array([0.0, 1.0])}}
        assert fit_weights(parts, dict.fromkeys(parts, np.array([True, False]))) == {}

    def test_a_part_that_orders_the_wrong_way_round_is_left_out(self):
        parts, relevant = made_up(20)
        alone = {q: {BI: of_query[BI]} for q, of_query in parts.items()}
        turned = {q: {BI: of_query[BI], FIRST: -of_query[CROSS]} for q, of_query in parts.items()}
        # The others get the weights that they have without it.
        assert fit_weights(turned, relevant) == pytest.approx(fit_weights(alone, relevant), rel=1e-3)
        assert list(fit_weights(turned, relevant)) == [BI]

    def test_nothing_helps(self):
        parts = {"q": {CROSS: np.array([0.0, 1.0, 2.0]), WORDS: np.array([3.0, 3.0, 3.0])}}
        assert fit_weights(parts, {"q": np.array([True, False, False])}) == {}

    def test_a_part_may_be_shifted_by_question(self):
        parts, relevant = made_up(20)
        shifted = {q: of_query | {CROSS: of_query[CROSS] + 7.0 * i} for i, (q, of_query) in enumerate(parts.items())}
        assert fit_weights(shifted, relevant) == pytest.approx(fit_weights(parts, relevant), rel=1e-3)

    @pytest.mark.parametrize("factor", [1e-3, 1e3])
    def test_a_scaled_part_gets_a_weight_scaled_back(self, factor):
        parts, relevant = made_up(20)
        scaled = {q: of_query | {CROSS: of_query[CROSS] * factor} for q, of_query in parts.items()}
        plain, found = fit_weights(parts, relevant), fit_weights(scaled, relevant)
        assert found[CROSS] * factor == pytest.approx(plain[CROSS], rel=1e-3)
        for q in parts:  # so that the joined score, and the order by it, is the same
            np.testing.assert_allclose(fuse(scaled[q], found), fuse(parts[q], plain), atol=0.01)
            assert np.argsort(fuse(scaled[q], found)).tolist() == np.argsort(fuse(parts[q], plain)).tolist()

    def test_questions_that_say_nothing_are_passed_over(self):
        parts, relevant = made_up(20)
        silent = {
            "none relevant": np.zeros(6, bool),
            "all relevant": np.ones(6, bool),
            "one candidate": np.array([True]),
            "no candidates": np.zeros(0, bool),
        }
        scores = {q: dict.fromkeys((CROSS, BI, WORDS), np.arange(float(len(found)))) for q, found in silent.items()}
        assert fit_weights(scores | parts, silent | relevant) == fit_weights(parts, relevant)
        assert fit_weights(scores, silent) == {}
        assert fit_weights({}, {}) == {}


def made_up(n_questions, weights=(2.0, 1.0, 0.5)):
    """Random parts of six candidates, and the one that a conditional logit with these weights draws as relevant."""
    random = np.random.default_rng(5)
    parts, relevant = {}, {}
    for i in range(n_questions):
        table = random.normal(size=(3, 6))
        # The largest of utility plus Gumbel noise is a draw from the softmax of the utilities.
        drawn = int(np.argmax(np.array(weights) @ table + random.gumbel(size=6)))
        parts[f"q{i}"] = dict(zip((CROSS, BI, WORDS), table, strict=True))
        relevant[f"q{i}"] = np.arange(6) == drawn
    return parts, relevant


def penalised_loss(weights, parts, relevant):
    """Sum over questions of -log softmax of the relevant candidate, and 0.3 (weight times spread)^2 of each part."""
    loss = 0.0
    for q, of_query in parts.items():
        scores = [sum(w * of_query[part][i] for part, w in weights.items()) for i in range(6)]
        (own,) = (score for score, is_relevant in zip(scores, relevant[q], strict=True) if is_relevant)
        loss += math.log(sum(math.exp(score) for score in scores)) - own
    for part, weight in weights.items():
        variance = sum(float(of_query[part].var()) for of_query in parts.values()) / len(parts)
        loss += PENALTY * weight**2 * variance
    return loss


class TestRerank:
    def test_by_scores(self):
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

    def test_the_kind_of_score_is_told(self):
        found = rerank(run(q=[("a", 1.0)]), {"q": np.array([2.0])}, "both", ScoreKind.FUSED)
        assert found.score_kind is ScoreKind.FUSED

    def test_many_equal_scores_keep_the_first_stage(self):
        first = run(q=[(f"p{i}", 50.0 - i) for i in range(50)])
        found = rerank(first, {"q": np.arange(50.0) % 2}, "odd first")
        assert [c.passage_id for c in found.candidates["q"]] == [f"p{i}" for i in [*range(1, 50, 2), *range(0, 50, 2)]]

    def test_a_question_without_candidates_stays_empty(self):
        assert rerank(run(q1=[]), {"q1": np.array([])}, "tuned").candidates == {"q1": ()}

    @pytest.mark.parametrize("scores", [{}, {"q1": np.array([1.0])}, {"q1": np.array([1.0, 2.0, 3.0])}])
    def test_not_one_score_for_each_candidate(self, scores):
        with pytest.raises(ConfigError, match=r"'q1': 2 candidates but [013] scores"):
            rerank(run(q1=[("a", 1.0), ("b", 0.0)]), scores, "tuned")


CHEAP = {BI: np.array([0.1, 0.9, 0.5]), WORDS: np.array([8.0, 0.0, 3.0]), FIRST: np.array([0.0, 0.0, 9.0])}


class TestReadingOrder:
    def test_the_best_by_the_weighted_parts_come_first(self):
        # 10 * 0.1 + 8 = 9, 9 + 0 and 5 + 3 = 8; the first stage has no weight. Of equals the first.
        assert reading_order(CHEAP, Reading(2, {BI: 10.0, WORDS: 1.0}), 3).tolist() == [0, 1, 2]
        assert reading_order(CHEAP, Reading(2, {BI: 11.0, WORDS: 1.0}), 3).tolist() == [1, 0, 2]

    def test_a_part_that_is_absent_is_left_out(self):
        assert reading_order({WORDS: CHEAP[WORDS]}, Reading(1, {BI: 11.0, WORDS: 1.0}), 3).tolist() == [0, 2, 1]

    @pytest.mark.parametrize("weights", [{}, {CROSS: 1.0}])
    def test_without_parts_as_given(self, weights):
        assert reading_order(CHEAP, Reading(1, weights), 3).tolist() == [0, 1, 2]


class TestUnread:
    def test_they_have_the_lowest_logit(self):
        assert with_unread(np.array([2.0, -1.0, 0.5]), 5).tolist() == [2.0, -1.0, 0.5, -1.0, -1.0]

    def test_all_read(self):
        assert with_unread(np.array([2.0, -1.0]), 2).tolist() == [2.0, -1.0]

    def test_no_candidates(self):
        assert with_unread(np.empty(0), 0).tolist() == []

    def test_a_logit_that_is_no_number_is_not_hidden(self):
        assert np.isnan(with_unread(np.array([2.0, np.nan]), 4)).tolist() == [False, True, True, True]


class TestWithRest:
    def test_the_others_follow_in_first_stage_order(self):
        whole = run(a=[("p1", 9.0), ("p2", 8.0), ("p3", 7.0), ("p4", 6.0)])
        top = rerank(run(a=[("p1", 9.0), ("p2", 8.0)]), {"a": np.array([-2.0, 5.0])}, "reranked")
        found = with_rest(top, whole)
        assert [(c.passage_id, c.score, c.rank) for c in found.candidates["a"]] == [
            ("p2", 5.0, 1), ("p1", -2.0, 2), ("p3", -3.0, 3), ("p4", -4.0, 4),
        ]  # fmt: skip
        assert (found.name, found.depth, found.score_kind) == ("reranked", 10, ScoreKind.LOGIT)

    def test_nothing_on_top(self):
        found = with_rest(run(), run(a=[("p1", 9.0), ("p2", 8.0)]))
        assert [(c.passage_id, c.score) for c in found.candidates["a"]] == [("p1", -1.0), ("p2", -2.0)]
