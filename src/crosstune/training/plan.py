"""What a time budget buys: length, negatives, epochs and depth of reading from the measured speed."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from crosstune.training.throughput import Throughput

LENGTHS = (64, 96, 128, 192, 256, 384, 512)
# Candidates that a cross-encoder reads of each question where there is no time for all: the order of the first ten is
# what is looked at, and the parts that cost little have brought the answer there or near.
_READS = (20, 10)
# One that is not tuned may read fewer still: five brought most of what twenty did (docs/experiments.md).
_FEWER_READS = (5, 3)
# Candidates that a second first stage adds to those of the first: of all, and of the few best of each; and those that
# a first stage puts in front and the other parts do not.
_OTHERS, _OTHER_BEST, _OTHER_TOP = 0.35, 0.15, 0.4
_DEPTH_OF_CHECK = 20
_MIN_EPOCHS = 1.5
# Beside a first stage that could have the time, a reranker that has seen fewer of the questions is not worth it.
_LEAST_EPOCHS = 0.5
# Fewer would only measure the warm-up.
_FEWEST_STEPS = 10
# Measured speeds are of a quiet second; minutes of work are slower (heat, neighbours, short batches).
_CAUTION = 0.85
_DEV_SHARE = 0.2
_MIN_EVALUATIONS, _MAX_EVALUATIONS = 2, 10


@dataclass(frozen=True, slots=True)
class Workload:
    """What has to be done, in counts and tokens.

    Attributes:
        query_lengths, passage_lengths: Tokens of each text (samples are fine).
        n_groups: Positives to train on.
        n_dev, n_test: Questions to judge on.
        depth: Candidates of each.
        n_models: Rerankers to judge on test: 2 when the base is one, else 1.
        n_runs: First stages whose candidates the tuned one is judged on.
    """

    query_lengths: NDArray[np.int64]
    passage_lengths: NDArray[np.int64]
    n_groups: int
    n_dev: int
    n_test: int
    depth: int
    n_models: int
    n_runs: int = 1

    def n_judged(self, reads: int, tuned: bool = True) -> float:
        """Pairs of dev and test that are read where so many of each question's candidates are.

        A reranker that is not tuned is judged alone over one first stage, and there is no other to compare it with.
        """
        beside = self.n_runs - 1
        if reads >= self.depth:
            read = (self.n_dev + self.n_test) * (1 + _OTHERS * beside)
        else:
            picked, alone = 1 + _OTHER_BEST * beside, _OTHER_TOP * (self.n_runs if tuned else 1)
            read = self.n_dev * picked + self.n_test * (picked + alone)
        return reads * (read + (self.n_models - 1) * self.n_test * tuned)


@dataclass(frozen=True, slots=True)
class Speed:
    """Measured on this machine.

    Attributes:
        training: Of the fastest way to train.
        scoring_tokens_per_s: Useful tokens that are read in a second.
    """

    training: Throughput
    scoring_tokens_per_s: float


@dataclass(frozen=True, slots=True)
class Plan:
    """What the budget buys.

    Attributes:
        max_length: Most tokens of a pair.
        n_negatives: Negatives of each positive.
        n_epochs: Passes over the training groups; below 1 some are not reached.
        n_steps: Optimizer steps.
        n_evaluations: Dev evaluations during training.
        dev_depth: Candidates of each dev question in those.
        n_dev: Dev questions in those.
        reads: Candidates of each question that a cross-encoder reads when it is judged and used.
        training_s: Expected seconds of training, dev evaluations included.
        judging_s: Expected seconds of scoring dev and test afterwards.
        fits: Whether all of it fits the budget.
        worth_it: Whether judging fits, and enough training that the model differs from its base.
    """

    max_length: int
    n_negatives: int
    n_epochs: float
    n_steps: int
    n_evaluations: int
    dev_depth: int
    n_dev: int
    reads: int
    training_s: float
    judging_s: float
    fits: bool
    worth_it: bool

    def sentence(self) -> str:
        """What was chosen, in one line."""
        return (
            f"{self.n_epochs:.1f} epochs ({self.n_steps} steps), {self.n_negatives} negatives a question, "
            f"{self.max_length} tokens a pair; about {_minutes(self.training_s)} of training and "
            f"{_minutes(self.judging_s)} of judging, {self.reads} passages a question"
        )


def plan(
    work: Workload,
    speed: Speed,
    budget_s: float,
    *,
    max_epochs: float,
    batch_groups: int = 8,
    longest: int = 256,
    n_negatives: int = 5,
) -> Plan:
    """Fit training and judging into the time left.

    All test questions are judged, and their time comes first. Then the richest of a short list of ways to train is
    taken that gives at least one and a half epochs: first full length and all negatives, then fewer negatives, then
    shorter pairs, as long as half of them stay whole (long questions leave little room for passages). Before a way is
    given up, the cross-encoder reads fewer of the candidates. When nothing fits, the way that trains for longest with
    as many steps as there is time for.

    Args:
        work: Counts and lengths.
        speed: Of this machine.
        budget_s: Seconds left for training and judging.
        max_epochs: More of them would overfit.
        batch_groups: Groups in an optimizer step.
        longest: Most tokens of a pair to consider.
        n_negatives: Negatives of each positive when there is time.
    """
    full = _full_length(work, longest)
    shorter = [length for length in reversed(LENGTHS) if max(128, _median_length(work)) <= length < full][:2]
    fewer = min(3, n_negatives)
    ways = [(full, n_negatives), (full, fewer), *((length, fewer) for length in shorter)]
    reads = (work.depth, *(n for n in _READS if n < work.depth))
    plans = [
        _for_way(work, speed, budget_s, max_epochs, batch_groups, *way, n) for way, n in itertools.product(ways, reads)
    ]
    return next((p for p in plans if p.fits), max(plans, key=_when_nothing_fits))


@dataclass(frozen=True, slots=True)
class ReadingPlan:
    """What the budget buys a reranker that is not trained and reads as it came.

    Attributes:
        max_length: Most tokens of a pair.
        reads: Candidates of each question that it reads when it is judged and used.
        judging_s: Expected seconds of scoring dev and test.
    """

    max_length: int
    reads: int
    judging_s: float


def plan_reading(work: Workload, speed: Speed, budget_s: float, *, longest: int = 256) -> ReadingPlan | None:
    """Fit the judging of a reranker that is not trained into the time left.

    Args:
        work: Counts and lengths.
        speed: Of this machine.
        budget_s: Seconds left for judging.
        longest: Most tokens of a pair to consider.

    Returns:
        As many candidates read as there is time for; None where there is none for the fewest.
    """
    max_length = _full_length(work, longest)
    pair_s = mean_pair_tokens(work, max_length) / (speed.scoring_tokens_per_s * _CAUTION)
    for reads in (work.depth, *(n for n in (*_READS, *_FEWER_READS) if n < work.depth)):
        judging_s = work.n_judged(reads, tuned=False) * pair_s
        if judging_s <= budget_s:
            return ReadingPlan(max_length, reads, judging_s)
    return None


def _when_nothing_fits(found: Plan) -> tuple[bool, float, float]:
    return found.worth_it, found.n_epochs, -(found.training_s + found.judging_s)


def _for_way(
    work: Workload,
    speed: Speed,
    budget_s: float,
    max_epochs: float,
    batch_groups: int,
    max_length: int,
    n_negatives: int,
    reads: int,
) -> Plan:
    tokens = mean_pair_tokens(work, max_length)
    scoring_s = tokens / (speed.scoring_tokens_per_s * _CAUTION)  # seconds a pair
    judging_s = work.n_judged(reads) * scoring_s
    step_s = speed.training.seconds(batch_groups * (1 + n_negatives) * tokens) / _CAUTION
    steps_per_epoch = math.ceil(work.n_groups / batch_groups)
    dev_depth, n_dev = min(_DEPTH_OF_CHECK, reads), min(100, work.n_dev)
    check_s = n_dev * dev_depth * scoring_s
    available_s = max(0.0, budget_s - judging_s)
    # Dev checks get their share, and never less than the fewest of them need.
    for_steps_s = max(0.0, min(available_s * (1 - _DEV_SHARE), available_s - _MIN_EVALUATIONS * check_s))
    n_steps = min(math.ceil(max_epochs * steps_per_epoch), int(for_steps_s / step_s))
    fits = n_steps >= min(_MIN_EPOCHS, max_epochs) * steps_per_epoch
    worth_it = n_steps >= min(_LEAST_EPOCHS, max_epochs) * steps_per_epoch
    if not fits:  # A run of fewer steps would only measure the warm-up.
        n_steps = max(n_steps, min(20, steps_per_epoch))
    affordable = int(_DEV_SHARE * n_steps * step_s / max(check_s, 1e-9))
    n_evaluations = min(n_steps, max(_MIN_EVALUATIONS, min(affordable, _MAX_EVALUATIONS)))
    return Plan(
        max_length=max_length,
        n_negatives=n_negatives,
        n_epochs=n_steps / steps_per_epoch,
        n_steps=n_steps,
        n_evaluations=n_evaluations,
        dev_depth=dev_depth,
        n_dev=n_dev,
        reads=reads,
        training_s=n_steps * step_s + n_evaluations * check_s,
        judging_s=judging_s,
        fits=fits,
        worth_it=worth_it,
    )


@dataclass(frozen=True, slots=True)
class FirstStagePlan:
    """What the budget buys for the bi-encoder.

    Attributes:
        max_length: Most tokens of a text in training.
        n_examples: What is trained on: question-answer pairs, or questions.
        n_epochs: Passes over them.
        n_steps: Optimizer steps.
        training_s: Expected seconds.
    """

    max_length: int
    n_examples: int
    n_epochs: float
    n_steps: int
    training_s: float

    def sentence(self) -> str:
        """What was chosen, in one line."""
        return (
            f"{self.n_epochs:.1f} epochs ({self.n_steps} steps) over {self.n_examples:,} examples, at "
            f"most {self.max_length} tokens a text; about {_minutes(self.training_s)}"
        )


def plan_first_stage(
    query_lengths: NDArray[np.int64],
    passage_lengths: NDArray[np.int64],
    speed: Throughput,
    budget_s: float,
    *,
    batch: int,
    longest: int,
    max_epochs: float,
) -> FirstStagePlan:
    """Fit bi-encoder training into its share of the time.

    The longest texts that leave time for one and a half epochs, else the shortest there are, with as many steps as
    there is time for.

    Args:
        query_lengths, passage_lengths: Tokens of each example's texts; passages whose vectors are known have none.
        speed: Of training, measured.
        budget_s: Seconds.
        batch: Pairs in an optimizer step.
        longest: Most tokens of a text that the model reads.
        max_epochs: More would not help.
    """
    lengths = [length for length in reversed(LENGTHS) if 128 <= length < longest]
    plans = [
        _first_stage(query_lengths, passage_lengths, speed, budget_s, batch, length, max_epochs)
        for length in (longest, *lengths)
    ]
    return next((p for p in plans if p.n_epochs >= min(_MIN_EPOCHS, max_epochs)), plans[-1])


def _first_stage(
    query_lengths: NDArray[np.int64],
    passage_lengths: NDArray[np.int64],
    speed: Throughput,
    budget_s: float,
    batch: int,
    length: int,
    max_epochs: float,
) -> FirstStagePlan:
    n_examples = len(query_lengths)
    tokens = float(np.minimum(query_lengths, length).mean() + np.minimum(passage_lengths, length).mean())
    step_s = speed.seconds(min(batch, n_examples) * tokens) / _CAUTION
    steps_per_epoch = math.ceil(n_examples / batch)
    most = math.ceil(max_epochs * steps_per_epoch)
    n_steps = min(most, max(int(budget_s / step_s), min(_FEWEST_STEPS, most)))
    return FirstStagePlan(length, n_examples, n_steps / steps_per_epoch, n_steps, n_steps * step_s)


def mean_pair_tokens(work: Workload, max_length: int) -> float:
    """Mean tokens of a pair of a random query and a random passage, cut at `max_length`."""
    n_special = 3
    lengths = work.query_lengths.mean() + work.passage_lengths + n_special
    return float(np.minimum(lengths, max_length).mean())


def _full_length(work: Workload, longest: int) -> int:
    """The smallest length that keeps 95 of 100 pairs whole, at most `longest`."""
    needed = np.quantile(work.query_lengths.mean() + work.passage_lengths, 0.95) + 3
    return next((length for length in LENGTHS if length >= needed and length <= longest), longest)


def _median_length(work: Workload) -> float:
    """Tokens of a pair that half of the pairs do not exceed."""
    return float(np.median(work.query_lengths.mean() + work.passage_lengths)) + 3


def _minutes(seconds: float) -> str:
    return f"{seconds / 60:.0f} min" if seconds >= 90 else f"{seconds:.0f} s"
