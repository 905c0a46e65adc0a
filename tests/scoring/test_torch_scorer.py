from itertools import accumulate

import numpy as np
import pytest
import torch

from crosstune.scoring import TorchScorer, measure_scoring

PAIRS = [("refund", "paid to your card"), ("invoice of this month", "the billing page")]


def clock_of(durations):
    """A clock by which the timed pieces of work last so long, one after the other."""
    ticks = iter([tick for end, duration in zip(accumulate(durations), durations, strict=True)
                  for tick in (end - duration, end)])  # fmt: skip
    return lambda: next(ticks)


def measured(load, bert, durations):
    loaded = load(bert)
    clock = clock_of(durations)
    found = measure_scoring(loaded.model, loaded.tokenizer, 64, PAIRS, clock)
    with pytest.raises(StopIteration):  # every duration was used
        clock()
    return found


def n_tokens(load, bert):
    loaded = load(bert)
    return sum(len(pair.ids) for pair in TorchScorer(loaded.model, loaded.tokenizer, 64).encode(PAIRS))


@pytest.mark.parametrize(
    ("durations", "precision", "seconds"),
    [
        # fp32 and bf16 in turn, three times; the fastest of each counts.
        ([4.0, 3.0, 2.0, 1.0, 3.0, 2.0], "bf16", 1.0),
        ([2.0, 1.75, 4.0, 3.0, 2.0, 2.0], "fp32", 2.0),  # 2 / 1.75 is 1.14 times as fast: not worth the rounding
        ([2.0, 1.6, 3.0, 1.5, 2.0, 4.0], "bf16", 1.5),  # 1.33 times
        ([2.0, 9.0, 3.0, 1.0], "fp32", 1.0),  # bf16 hopeless at once: not timed again
        ([30.0, 4.0, 3.0, 3.5], "bf16", 3.0),
    ],
)
def test_precision_is_chosen_by_the_clock(load, bert, durations, precision, seconds):
    chosen, tokens_per_s = measured(load, bert, durations)
    assert chosen == precision
    assert tokens_per_s == pytest.approx(n_tokens(load, bert) / seconds)


def test_when_memory_runs_out_batches_are_halved(load, bert, monkeypatch):
    loaded = load(bert)
    scorer = TorchScorer(loaded.model, loaded.tokenizer, 64)
    pairs = [(query, passage) for query, _ in PAIRS for _, passage in PAIRS] * 2
    expected = scorer.score_pairs(pairs)
    batch, read = TorchScorer._batch, []

    def limited(self, encoded):
        if len(encoded) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        read.append(len(encoded))
        return batch(self, encoded)

    monkeypatch.setattr(TorchScorer, "_batch", limited)
    assert np.abs(scorer.score_pairs(pairs) - expected).max() < 1e-5
    assert sum(read) == 8
