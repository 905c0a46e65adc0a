from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from crosstune.training import Plan, Speed, Throughput, Workload, plan, plan_first_stage, plan_reading
from crosstune.training.plan import mean_pair_tokens

# Question 7 tokens, passage 90, 3 special: every pair has 100. Speeds are divided by the caution 0.85: the
# plan then reckons with exactly 1000 tokens a second in training and 10000 in scoring.
WORK = Workload(
    query_lengths=np.array([7, 7]),
    passage_lengths=np.array([90, 90, 90]),
    n_groups=80,
    n_dev=50,
    n_test=100,
    depth=40,
    n_models=1,
)
SPEED = Speed(Throughput("fp32", "sdpa", 1000 / 0.85, 0.0), 10000 / 0.85)
# Scoring a pair: 0.01 s. Judging: (50 + 100) x 40 x 0.01 = 60 s. A dev check: 50 x 20 x 0.01 = 10 s.
# A step with 5 negatives: 8 x 6 x 100 / 1000 = 4.8 s, with 3: 3.2 s. An epoch: 80 / 8 = 10 steps.


def planned(budget_s, work=WORK, **options):
    return plan(work, SPEED, budget_s, **({"max_epochs": 4.0} | options))


class TestByHand:
    def test_everything_fits(self):
        # 4 epochs: 40 x 4.8 = 192 s. Dev may take a fifth of that, 38.4 s: 3 checks of 10 s.
        found = planned(10_000)
        assert (found.max_length, found.n_negatives, found.n_steps, found.n_epochs) == (128, 5, 40, 4.0)
        assert (found.n_evaluations, found.n_dev, found.dev_depth) == (3, 50, 20)
        assert found.training_s == pytest.approx(192 + 30)
        assert found.judging_s == pytest.approx(60)
        assert found.fits

    def test_a_step_has_a_price_of_its_own(self):
        # 4 epochs: 40 x (4.8 + 1.7 / 0.85) = 272 s, and five checks of 10 s in the fifth of it that dev may take.
        speed = replace(SPEED, training=replace(SPEED.training, step_s=1.7))
        found = plan(WORK, speed, 10_000, max_epochs=4.0)
        assert (found.n_steps, found.n_evaluations) == (40, 5)
        assert found.training_s == pytest.approx(272 + 50)

    def test_fewer_epochs(self):
        # 240 s, 180 after judging, 144 of them for steps: 30 of 4.8 s, 3 epochs. Dev: 28.8 s, 2 checks.
        found = planned(240)
        assert (found.n_negatives, found.n_steps, found.n_epochs, found.n_evaluations) == (5, 30, 3.0, 2)
        assert found.training_s == pytest.approx(144 + 20)
        assert found.fits

    def test_fewer_passages_read(self):
        # Of 145 s 85 are left after judging, 65 beside two dev checks: 13 steps are less than 1.5 epochs. Reading 20 of
        # the 40, and of each test question as many again times 0.4 that the first stage alone puts in front:
        # 20 x (50 + 1.4 x 100) x 0.01 = 38 s. Of the 107 left 0.8 x 107 = 85.6 are for steps: 17.
        found = planned(145)
        assert (found.n_negatives, found.reads, found.n_steps) == (5, 20, 17)
        assert found.judging_s == pytest.approx(38)
        assert found.fits

    def test_fewer_negatives(self):
        # 105 s: even 10 passages, judged in 19 s, leave 0.8 x 86 = 68.8 s for steps, 14 with 5 negatives. With 3 they
        # are 21. (With 20 passages it would be 47 s beside two checks, 14 steps.) A check of 10 passages takes 5 s.
        found = planned(105)
        assert (found.n_negatives, found.reads, found.n_steps, found.n_epochs) == (3, 10, 21, 2.1)
        assert found.training_s == pytest.approx(21 * 3.2 + 10)
        assert found.fits

    def test_shorter_pairs(self):
        # Pairs of 110, 110 and 290 tokens; cut at 128 they have 116 on average. A step with 3 negatives takes
        # 8 x 4 x 0.116 = 3.712 s, judging by 10 passages 22 s. Of 100 s 78 are left, 62.4 for steps: 16. Cut at 192
        # they have 137.3: judging 26.1, 73.9 left, 59.1 for steps of 4.395 s: 13, too few.
        work = replace(WORK, passage_lengths=np.array([100, 100, 280]))
        found = planned(100, work)
        assert (found.max_length, found.n_negatives, found.reads, found.n_steps) == (128, 3, 10, 16)
        assert found.fits

    def test_two_first_stages(self):
        # All 40 of each: 0.35 more for the second. (150 x 1.35 + 100 of the base) x 40 x 0.01 = 121 s. The 20 best:
        # 0.15 more, and of test 0.4 of each first stage's own: (50 x 1.15 + 100 x 1.95 + 100) x 20 x 0.01 = 70.5 s.
        work = replace(WORK, n_models=2, n_runs=2)
        assert planned(10_000, work).judging_s == pytest.approx(121)
        assert work.n_judged(20) == pytest.approx(7050)

    def test_reading_without_training(self):
        # (50 + 100) x 40 x 0.01 = 60 s; the 20 best, and 0.4 of the first stage's own on test: 20 x (50 + 140) x 0.01.
        work = replace(WORK, n_models=2)
        reads = {b: plan_reading(work, SPEED, b) for b in (60.1, 59.9, 38.1, 37.9, 19.1, 18.9, 9.4, 5.6)}
        found = {b: None if read is None else (read.reads, read.judging_s) for b, read in reads.items()}
        expected = (40, 60), (20, 38), (20, 38), (10, 19), (10, 19), (5, 9.5), (3, 5.7)
        assert list(found.values())[:-1] == [(n, pytest.approx(s)) for n, s in expected]
        assert found[5.6] is None
        assert reads[60.1].max_length == 128

    def test_reading_over_two_first_stages(self):
        # 0.15 more candidates for the second, and the base alone over the untuned one only.
        work = replace(WORK, n_models=2, n_runs=2)
        assert plan_reading(work, SPEED, 60).judging_s == pytest.approx((50 * 1.15 + 100 * 1.55) * 20 * 0.01)
        assert plan_reading(work, SPEED, 10_000).judging_s == pytest.approx(150 * 1.35 * 40 * 0.01)

    def test_no_more_is_read_than_there_is(self):
        assert planned(10_000, replace(WORK, depth=12)).reads == 12
        assert planned(30, replace(WORK, depth=8)).reads == 8

    def test_worth_it_is_half_an_epoch(self):
        # 19 s of judging by 10 passages and two checks of 5 s: 5 steps of 3.2 s are half an epoch.
        assert planned(19 + 10 + 5 * 3.2 + 0.1).worth_it
        assert not planned(19 + 10 + 5 * 3.2 - 0.1).worth_it

    def test_pairs_are_not_cut_below_half_of_them_whole(self):
        # Every pair has 290 tokens, so 192 would cut all of them: rather too few steps at 256.
        found = planned(200, replace(WORK, passage_lengths=np.array([280, 280])))
        assert (found.max_length, found.n_negatives) == (256, 3)
        assert not found.fits

    def test_a_tiny_budget(self):
        # Nothing fits, and the cheapest way takes a short epoch of 10 steps.
        found = planned(30)
        assert not found.fits
        assert (found.reads, found.judging_s) == (10, pytest.approx(19))
        assert (found.n_steps, found.n_negatives, found.n_evaluations) == (10, 3, 2)
        assert found.training_s == pytest.approx(32 + 10)

    def test_two_models_to_judge(self):
        # (50 + 2 x 100) x 40 x 0.01
        assert planned(10_000, replace(WORK, n_models=2)).judging_s == pytest.approx(100)

    def test_a_big_dev_set_is_sampled(self):
        found = planned(10_000, replace(WORK, n_dev=1000, depth=10))
        assert (found.n_dev, found.dev_depth) == (100, 10)
        assert found.judging_s == pytest.approx((1000 + 100) * 10 * 0.01)

    def test_steps_round_up_to_whole_batches(self):
        # 81 groups: 11 steps an epoch, 44 for 4.
        assert planned(10_000, replace(WORK, n_groups=81)).n_steps == 44

    def test_a_cheap_check_is_made_ten_times_and_never_more_often_than_there_are_steps(self):
        assert planned(10_000, replace(WORK, n_dev=1)).n_evaluations == 10
        found = planned(10_000, replace(WORK, n_dev=1, n_groups=8), max_epochs=1.0)
        assert (found.n_steps, found.n_evaluations) == (1, 1)

    def test_fewer_negatives_than_asked_for_are_never_more(self):
        assert planned(30, n_negatives=1).n_negatives == 1

    def test_the_sentence_names_what_was_chosen(self):
        assert planned(10_000).sentence() == (
            "4.0 epochs (40 steps), 5 negatives a question, 128 tokens a pair; about 4 min of training and "
            "60 s of judging, 40 passages a question"
        )


class TestLength:
    def test_mean_tokens_are_cut(self):
        # 7 + 3 + 10 = 20, 7 + 3 + 90 = 100, 7 + 3 + 300 = 310 cut at 128: mean 248 / 3.
        work = replace(WORK, passage_lengths=np.array([10, 90, 300]))
        assert mean_pair_tokens(work, 128) == pytest.approx(248 / 3)

    @pytest.mark.parametrize(
        ("longest_passage", "longest", "length"),
        [(54, 256, 64), (55, 256, 96), (500, 256, 256), (90, 48, 48)],
    )
    def test_the_smallest_that_holds_most_pairs(self, longest_passage, longest, length):
        work = replace(WORK, passage_lengths=np.full(40, longest_passage))
        assert planned(10_000, work, longest=longest).max_length == length

    def test_one_long_passage_in_forty_does_not_count(self):
        work = replace(WORK, passage_lengths=np.array([50] * 39 + [500]))
        assert planned(10_000, work).max_length == 64


works = st.builds(
    Workload,
    query_lengths=st.lists(st.integers(3, 40), min_size=1, max_size=4).map(np.array),
    passage_lengths=st.lists(st.integers(3, 600), min_size=1, max_size=6).map(np.array),
    n_groups=st.integers(1, 5000),
    n_dev=st.integers(1, 300),
    n_test=st.integers(1, 300),
    depth=st.integers(2, 100),
    n_models=st.integers(1, 2),
    n_runs=st.integers(1, 2),
)
throughputs = st.builds(Throughput, st.just("fp32"), st.just("sdpa"), st.floats(100, 1e5), st.floats(0, 2))
speeds = st.builds(Speed, throughputs, st.floats(100, 1e5))
budgets = st.floats(1, 1e5)


def same_way(one: Plan, other: Plan) -> bool:
    return way(one) == way(other)


def way(found: Plan) -> tuple[int, int, int]:
    return found.max_length, found.n_negatives, found.reads


@given(works, speeds, budgets, st.floats(0.2, 6))
def test_a_plan_that_fits_keeps_the_budget(work, speed, budget_s, max_epochs):
    found = plan(work, speed, budget_s, max_epochs=max_epochs)
    assert found.n_steps >= 1
    assert 1 <= found.n_evaluations <= min(10, found.n_steps)
    if found.fits:
        assert found.training_s + found.judging_s <= budget_s * (1 + 1e-9)
        assert found.n_steps <= np.ceil(max_epochs * np.ceil(work.n_groups / 8))


@given(works, speeds, budgets, st.floats(1, 3))
def test_more_budget_never_gives_less(work, speed, budget_s, factor):
    less, more = (plan(work, speed, b, max_epochs=4.0) for b in (budget_s, budget_s * factor))
    assert more.fits or not less.fits
    if same_way(less, more):
        assert more.n_steps >= less.n_steps
    elif less.fits:  # a richer way: longer pairs, more negatives or more passages read
        assert way(more) > way(less)


@given(works, speeds)
def test_a_tiny_budget_does_not_fit(work, speed):
    assert not plan(work, speed, 1e-3, max_epochs=4.0).fits


class TestFirstStage:
    # 640 pairs of 20 and 180 tokens: 32 pairs of 200 tokens make a step, 20 steps an epoch. 1,000 tokens a second, of
    # which 850 are counted on: a step takes 6,400 / 850 = 7.53 s.
    QUERIES, PASSAGES = np.full(640, 20), np.full(640, 180)
    SPEED = Throughput("fp32", "sdpa", 1000.0, 0.0)

    def plan(self, budget_s, **changes):
        options = {"batch": 32, "longest": 256, "max_epochs": 4.0} | changes
        return plan_first_stage(self.QUERIES, self.PASSAGES, self.SPEED, budget_s, **options)

    def test_with_time_for_all_epochs(self):
        found = self.plan(10_000)
        assert (found.n_steps, found.n_epochs, found.max_length, found.n_examples) == (80, 4.0, 256, 640)
        assert found.training_s == pytest.approx(80 * 6400 / 850)

    def test_as_many_steps_as_there_is_time_for(self):
        # 300 s are 39.8 steps: 39, just under two epochs and above one and a half.
        found = self.plan(300)
        assert (found.n_steps, found.max_length) == (39, 256)
        assert found.n_epochs == pytest.approx(1.95)

    def test_a_step_takes_its_time_however_short_its_texts_are(self):
        # Questions alone: 32 x 20 tokens are 0.64 s, and 1.06 s go to every step: (1.06 + 0.64) / 0.85 = 2 s.
        slow = Throughput("fp32", "sdpa", 1000.0, 1.06)
        options = {"batch": 32, "longest": 256, "max_epochs": 4.0}
        found = plan_first_stage(self.QUERIES, np.zeros_like(self.PASSAGES), slow, 101, **options)
        assert (found.n_steps, found.training_s) == (50, pytest.approx(100))

    def test_shorter_texts_buy_epochs(self):
        # 200 s are 26 whole steps (1.3 epochs). At 192 tokens nothing is cut; at 128 a step has 32 * 148 tokens,
        # 5.57 s: 35 steps, 1.75 epochs.
        found = self.plan(200)
        assert (found.max_length, found.n_steps) == (128, 35)

    def test_never_fewer_steps_than_say_anything(self):
        assert self.plan(1).n_steps == 10
        few = plan_first_stage(np.full(40, 20), np.full(40, 180), self.SPEED, 1, batch=32, longest=256, max_epochs=4.0)
        assert few.n_steps == 8  # all four epochs are no more

    def test_a_model_that_reads_less_than_128_tokens(self):
        assert self.plan(1, longest=64).max_length == 64
