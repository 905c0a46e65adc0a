from dataclasses import replace
from functools import partial

import numpy as np
import pytest

from crosstune.bundle import ModelBundle, load_bundle, save_bundle
from crosstune.errors import ConfigError
from crosstune.scoring import Reranker, standardised
from crosstune.scoring import reranker as module
from crosstune.scoring.deadline import score_within
from crosstune.types import Calibration, Fusion, Part, ScoreKind


class Work:
    """A scorer by whose clock pair i takes `seconds[i]`; the score of a pair is the number in its passage."""

    def __init__(self, seconds):
        self.seconds, self.now, self.chunks = list(seconds), 0.0, []

    def clock(self):
        return self.now

    def score(self, pairs, progress=None):
        numbers = [int(passage) for _, passage in pairs]
        self.chunks.append(len(pairs))
        self.now += sum(self.seconds[i] for i in numbers)
        return np.array(numbers, np.float64)


def run(seconds, deadline_s, passages=None):
    work = Work(seconds)
    # Passages are equally long, so that each pair is expected to take as long as any other.
    pairs = [("q", passage) for passage in passages or [f"{i:03d}" for i in range(len(seconds))]]
    scores = score_within(work.score, pairs, deadline_s, 64, work.clock)
    assert scores.tolist() == list(range(len(scores)))  # the first ones, in order
    return work.chunks, work.now


class TestChunks:
    def test_all_fit(self):
        # 8, then as many as all before: 8, 16, and the last 8 of 40.
        assert run([0.01] * 40, 60.0) == ([8, 8, 16, 8], pytest.approx(0.4))

    def test_as_many_as_the_speed_says_still_fit(self):
        # 8 in 0.8 s leave 0.55 s: 5 more at 0.1 s, after which 0.05 s are too short for another.
        assert run([0.1] * 40, 1.35) == ([8, 5], pytest.approx(1.3))

    def test_a_slow_start_is_made_up_for(self):
        # The first 8 take 0.5 s each, as with a cold model: 4 s. 2.2 s are left, 4 pairs by that speed. They take
        # 0.04 s; by the new speed of 0.01 s the 2.16 s left hold 216, of which 12 at most (all before), then 24.
        assert run([0.5] * 8 + [0.01] * 40, 6.2)[0] == [8, 4, 12, 24]

    def test_cached_pairs_do_not_promise_a_speed(self):
        # 8 at once from a cache, the rest at 0.5 s: 8 more take 4 s of 5; the 1 s left holds 2.
        assert run([0.0] * 8 + [0.5] * 40, 5.0) == ([8, 8, 2], pytest.approx(5.0))

    def test_the_first_eight_are_scored_in_any_case(self):
        assert run([1.0] * 20, 0.001) == ([8], 8.0)
        assert run([1.0] * 3, 0.001) == ([3], 3.0)

    def test_long_passages_are_expected_to_take_longer(self):
        # The first 8 pairs have 1 + 3 + 1 = 5 units each (40 in 0.8 s: 0.02 s a unit), the following 1 + 13 + 1 = 15:
        # 0.3 s each, so that 1 s holds 3.
        passages = [f"{i:03d}" for i in range(8)] + [f"{i:013d}" for i in range(8, 20)]
        assert run([0.1] * 8 + [0.3] * 12, 1.8, passages)[0] == [8, 3]

    def test_what_is_cut_is_expected_to_take_no_time(self):
        # Both lengths are beyond 64 tokens of 4 characters.
        passages = [f"{i:0300d}" for i in range(8)] + [f"{i:03000d}" for i in range(8, 20)]
        assert run([0.1] * 20, 1.25, passages)[0] == [8, 4]

    def test_nothing_to_score(self):
        assert run([], 1.0) == ([], 0.0)


PASSAGES = [f"{i:03d}" for i in range(12)]


@pytest.fixture(scope="module")
def folder(load, bert, tmp_path_factory):
    path = tmp_path_factory.mktemp("run") / "model"
    scale = Calibration(1.0, 0.0, 0.5, 0, 0, 1)
    fusion = Fusion("bm25", {Part.CROSS_ENCODER: 0.5, Part.FIRST_STAGE: 2.0}, "en", scale)
    bundle = ModelBundle(path, 64, ScoreKind.LOGIT, "base", "r", "f", "fp32", scale, fusion)
    loaded = load(bert)
    save_bundle(bundle, (loaded.model, loaded.tokenizer))
    return path


@pytest.fixture
def reranker(folder, monkeypatch):
    """A model by whose clock a pair takes 0.1 s and whose logit is the passage's number."""
    work, found = Work([0.1] * 12), Reranker.load(folder)
    monkeypatch.setattr(found.scorer, "score_pairs", work.score)
    monkeypatch.setattr(module, "score_within", partial(score_within, clock=work.clock))
    return found


def test_what_was_not_reached_stands_behind_in_input_order(reranker):
    # 1.05 s: 8 in 0.8 s, then 2. The logit is the number, so the best reached is 9.
    ranked = reranker.rank("q", PASSAGES, deadline_ms=1050)
    assert [r.index for r in ranked] == [9, 8, 7, 6, 5, 4, 3, 2, 1, 0, 10, 11]
    assert [r.rank for r in ranked] == list(range(1, 13))
    assert [r.reranked for r in ranked] == [True] * 10 + [False] * 2
    assert [(r.logit, r.probability, r.score, r.answers) for r in ranked[10:]] == [(None, None, None, False)] * 2
    assert [r.logit for r in ranked[:3]] == [9.0, 8.0, 7.0]


def test_the_first_stage_says_who_is_reached(reranker):
    first_stage = [float(i) for i in range(12)]  # the last passage is its best
    ranked = reranker.rank("q", PASSAGES, first_stage, deadline_ms=850)
    assert {r.index for r in ranked if r.reranked} == set(range(4, 12))
    assert [r.index for r in ranked if not r.reranked] == [3, 2, 1, 0]


def test_first_stage_scores_are_standardised_over_the_reached_ones(reranker):
    # Reached are 4 to 11, where logit and first stage agree; 0 to 3, far below, may not stretch the scale. The best of
    # 8 equally spaced numbers stands 3.5 steps over the mean, and their standard deviation is sqrt((64 - 1) / 12). The
    # logit counts as it is: 0.5 * 11.
    first_stage = [-1000.0 + i if i < 4 else float(i) for i in range(12)]
    ranked = reranker.rank("q", PASSAGES, first_stage, deadline_ms=850)
    assert ranked[0].index == 11
    assert ranked[0].score == pytest.approx(0.5 * 11 + 2 * 3.5 / np.sqrt(63 / 12))


def test_shared_words_are_counted_among_all_candidates(folder, monkeypatch):
    # 12 candidates of one word; "rare" is in the first alone, which is reached in any case. Of all 12, idf =
    # ln(1 + 11.5 / 1.5); all lengths are the mean, so the score is idf / 2.2. Of the 8 reached it would be
    # ln(1 + 7.5 / 1.5).
    words = Fusion("bm25", {Part.CROSS_ENCODER: 1.0, Part.LEXICAL: 1.0}, "und", Calibration(1.0, 0.0, 0.5, 0, 0, 1))
    found = Reranker(replace(load_bundle(folder), fusion=words))
    monkeypatch.setattr(found.scorer, "score_pairs", lambda pairs: np.zeros(len(pairs)))
    monkeypatch.setattr(module, "score_within", partial(score_within, clock=iter(range(9)).__next__))
    ranked = found.rank("rare", ["rare", *["common"] * 11], deadline_ms=1)
    assert sum(r.reranked for r in ranked) == 8
    assert ranked[0].score == pytest.approx(np.log(1 + 11.5 / 1.5) / 2.2)
    assert [r.score for r in ranked[1:8]] == [0.0] * 7


def test_only_reached_passages_are_embedded(folder, monkeypatch):
    """A bi-encoder's cosines are those of the reached ones, in their order."""
    joined = Fusion("bm25", {Part.CROSS_ENCODER: 1.0, Part.BI_ENCODER: 1.0}, "und", Calibration(1.0, 0.0, 0.5, 0, 0, 1))
    asked = []

    class Cosines:
        def score_pairs(self, pairs):
            asked.extend(passage for _, passage in pairs)
            return np.array([int(passage) / 100 for _, passage in pairs])

    monkeypatch.setattr(Reranker, "_open_bi_encoder", lambda self: Cosines())
    found, work = Reranker(replace(load_bundle(folder), fusion=joined)), Work([0.1] * 12)
    monkeypatch.setattr(found.scorer, "score_pairs", work.score)
    monkeypatch.setattr(module, "score_within", partial(score_within, clock=work.clock))
    ranked = found.rank("q", PASSAGES, [float(i) for i in range(12)], deadline_ms=850)
    assert asked == PASSAGES[:3:-1]
    # Passage 11 has logit 11 and cosine 0.11.
    assert [(r.index, r.score) for r in ranked[:8]] == [(i, pytest.approx(1.01 * i)) for i in range(11, 3, -1)]


@pytest.mark.parametrize("weights", [{Part.CROSS_ENCODER: 0.5, Part.FIRST_STAGE: 1.0}, {Part.CROSS_ENCODER: 0.5}])
def test_equal_scores_keep_input_order_whatever_was_reached_first(folder, monkeypatch, weights):
    bundle = load_bundle(folder)
    reranker = Reranker(replace(bundle, fusion=replace(bundle.fusion, weights=weights)))
    # Reached last to first, since the first stage rises. Logits of -2 for each of its standard deviations, half of
    # which counts, make all joined scores 0; without the first stage's part equal logits do.
    first_stage = np.arange(3.0)
    steps = standardised(first_stage)[::-1] if Part.FIRST_STAGE in weights else np.zeros(3)
    monkeypatch.setattr(reranker.scorer, "score_pairs", lambda pairs: -2 * steps)
    assert [r.index for r in reranker.rank("q", PASSAGES[:3], first_stage.tolist(), deadline_ms=1e6)] == [0, 1, 2]


def test_without_pressure_it_is_the_same_ranking(folder):
    found = Reranker.load(folder)
    words = ["refund", "card", "report", "menu", "invoice", "billing", "password", "link"]
    passages = [f"{words[i % 8]} paid {words[(i * 3 + i // 8) % 8]} {words[i // 4]}" for i in range(15)]
    free, timed = found.rank("refund", passages), found.rank("refund", passages, deadline_ms=1e6)
    assert [r.index for r in timed] == [r.index for r in free]
    assert [r.logit for r in timed] == pytest.approx([r.logit for r in free], abs=1e-5)


@pytest.mark.parametrize("deadline", [0, -1, float("nan")])
def test_no_time_at_all_is_refused(reranker, deadline):
    with pytest.raises(ConfigError, match="above 0 ms"):
        reranker.rank("q", PASSAGES, deadline_ms=deadline)
