from dataclasses import dataclass, field

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from crosstune.pair_encoding import EncodedPair
from crosstune.training.batches import EncodedGroup, GroupCollator, LengthGroupedSampler
from crosstune.training.losses import LOSSES, make_loss


def epochs_of(sampler, n_batches_per_epoch):
    batches = list(sampler)
    return [batches[i : i + n_batches_per_epoch] for i in range(0, len(batches), n_batches_per_epoch)]


class TestSampler:
    def test_the_same_seed_gives_the_same_batches(self):
        lengths = np.random.default_rng(0).integers(10, 500, 50)
        first, second, third = (list(LengthGroupedSampler(lengths, 4, 40, seed)) for seed in (3, 3, 4))
        assert first == second != third

    def test_a_second_pass_is_the_same(self):
        # accelerate and the Trainer may start the iterator more than once.
        sampler = LengthGroupedSampler([3, 1, 2, 5, 4], 2, 7, 0)
        assert list(sampler) == list(sampler)

    @given(st.integers(1, 60), st.integers(1, 9), st.integers(1, 40), st.integers(0, 5))
    def test_every_group_once_an_epoch(self, n_groups, batch_size, n_steps, seed):
        lengths = np.random.default_rng(n_groups).integers(1, 300, n_groups)
        sampler = LengthGroupedSampler(lengths, batch_size, n_steps, seed)
        assert len(sampler) == n_steps == len(list(sampler))
        for epoch in epochs_of(sampler, -(-n_groups // batch_size)):
            seen = [i for batch in epoch for i in batch]
            assert len(seen) == len(set(seen))
            assert max(len(batch) for batch in epoch) <= batch_size
            if len(epoch) == -(-n_groups // batch_size):
                assert sorted(seen) == list(range(n_groups))

    def test_epochs_differ(self):
        first, second = epochs_of(LengthGroupedSampler(list(range(40)), 4, 20, 0), 10)
        assert first != second

    def test_lengths_inside_a_batch_are_close(self):
        lengths = np.random.default_rng(1).permutation(np.repeat(np.arange(1, 17), 8))  # 128 groups: one window

        def spread(batches):
            return np.mean([np.ptp(lengths[batch]) for batch in batches])

        # 16 lengths with 8 groups each, batches of 8, sorted: every batch is of one length.
        assert spread(list(LengthGroupedSampler(lengths, 8, 16, 0))) == 0
        assert spread(np.arange(128).reshape(16, 8).tolist()) > 8  # in arrival order they are not

    def test_short_batches_do_not_all_come_first(self):
        lengths = np.arange(128)
        means = [lengths[batch].mean() for batch in LengthGroupedSampler(lengths, 8, 16, 0)]
        assert means != sorted(means)
        assert abs(np.corrcoef(means, np.arange(16))[0, 1]) < 0.7

    def test_a_run_may_end_inside_an_epoch(self):
        assert len(list(LengthGroupedSampler([1, 2, 3, 4], 1, 6, 0))) == 6


@dataclass
class CountingEncoder:
    """Pads like the real one and remembers how; a pair's first id is its name."""

    padded: list[tuple[int, int]] = field(default_factory=list)

    def pad(self, pairs):
        longest = max(len(pair.ids) for pair in pairs)
        self.padded.append((len(pairs), longest))
        ids = np.zeros((len(pairs), longest), np.int64)
        for row, pair in enumerate(pairs):
            ids[row, : len(pair.ids)] = pair.ids
        return {"input_ids": torch.from_numpy(ids)}


def group(names, lengths, labels):
    pairs = tuple(EncodedPair(np.full(n, name, np.int32), 1, False) for name, n in zip(names, lengths, strict=True))
    return EncodedGroup(pairs, tuple(labels))


class TestCollator:
    # Names 1..5, lengths shuffled; the second group is one candidate short.
    GROUPS = (group([1, 2, 3], [4, 9, 2], [1, 0, 0]), group([4, 5], [7, 3], [0, 1]))

    def test_by_hand(self):
        encoder = CountingEncoder()
        batch = GroupCollator(encoder, slice_tokens=16)(self.GROUPS)
        # Longest first: 2 (9 tokens), 4 (7), 1 (4), 5 (3), 3 (2). 16 tokens hold one of 9, then two of 7,
        # then both that are left.
        assert encoder.padded == [(1, 9), (2, 7), (2, 3)]
        order = [part["input_ids"][:, 0].tolist() for part in batch["slices"]]
        assert order == [[2], [4, 1], [5, 3]]
        assert batch["position"].tolist() == [[2, 0, 4], [1, 3, 0]]
        assert batch["labels"].tolist() == [[1, 0, 0], [0, 1, 0]]
        assert batch["mask"].tolist() == [[True, True, True], [True, True, False]]

    def test_position_brings_each_logit_to_its_candidate(self):
        batch = GroupCollator(CountingEncoder(), slice_tokens=16)(self.GROUPS)
        # A model that gives each pair's name as its logit.
        logits = torch.cat([part["input_ids"][:, 0].float() for part in batch["slices"]])
        assert logits[batch["position"]][batch["mask"]].tolist() == [1, 2, 3, 4, 5]

    def test_a_short_group_before_a_long_one(self):
        batch = GroupCollator(CountingEncoder(), slice_tokens=16)(self.GROUPS[::-1])
        logits = torch.cat([part["input_ids"][:, 0].float() for part in batch["slices"]])
        assert logits[batch["position"]][batch["mask"]].tolist() == [4, 5, 1, 2, 3]

    @pytest.mark.parametrize("loss", sorted(LOSSES))
    def test_padding_never_reaches_the_loss(self, loss):
        batch = GroupCollator(CountingEncoder(), slice_tokens=16)(self.GROUPS)
        slices = torch.cat([part["input_ids"][:, 0].float() for part in batch["slices"]])
        padded = make_loss(loss)(slices[batch["position"]], batch["labels"], batch["mask"])

        def alone(*values, labels):
            mask = torch.ones(1, len(values), dtype=torch.bool)
            return float(make_loss(loss)(torch.tensor([values]), torch.tensor([labels]), mask))

        first = alone(1.0, 2.0, 3.0, labels=[1.0, 0.0, 0.0])
        second = alone(4.0, 5.0, labels=[0.0, 1.0])
        expected = (first + second) / 2 if loss == "lce" else (3 * first + 2 * second) / 5
        assert float(padded) == pytest.approx(expected, abs=1e-6)

    def test_slices_do_not_change_the_gradient(self):
        def gradient(slice_tokens):
            batch = GroupCollator(CountingEncoder(), slice_tokens)(self.GROUPS)
            weight = torch.ones((), requires_grad=True)
            logits = torch.cat([(part["input_ids"].float() * weight).sum(1) for part in batch["slices"]])
            make_loss("lce")(logits[batch["position"]], batch["labels"], batch["mask"]).backward()
            return float(weight.grad)

        assert gradient(1) == pytest.approx(gradient(10_000), rel=1e-6)

    def test_tokens_of_a_group(self):
        assert [g.n_tokens for g in self.GROUPS] == [15, 10]
