"""Groups of candidates to batches: which groups go together, and how they become tensors."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from crosstune.pair_encoding import CPU_BATCH_TOKENS, EncodedPair, PairEncoder, length_batches

# Groups are sorted by length inside windows of this many batches: similar lengths together, order still random.
_WINDOW_BATCHES = 16
# A backward pass keeps more of each token than scoring does.
_GPU_SLICE_TOKENS = 32768


def slice_tokens(device: str) -> int:
    """Padded tokens that go through the model at once, as fast as any other number on that kind of device."""
    return CPU_BATCH_TOKENS if device == "cpu" else _GPU_SLICE_TOKENS


@dataclass(frozen=True, slots=True)
class EncodedGroup:
    """One training example: the candidates of one question, tokenised, with their labels."""

    pairs: tuple[EncodedPair, ...]
    labels: tuple[float, ...]

    @property
    def n_tokens(self) -> int:
        """Tokens of all its pairs."""
        return sum(len(pair.ids) for pair in self.pairs)


class LengthGroupedSampler:
    """The batches of a whole training run, epoch after epoch, groups of similar length together.

    The run is one sequence of `n_steps` batches, the same for the same seed, so that a resumed run only has to skip
    the batches it has seen. A batch never spans two epochs; the last batch of an epoch may be smaller.

    Args:
        lengths: Tokens of each group.
        batch_size: Groups in a batch.
        n_steps: Batches in all.
        seed: Of the shuffles.
    """

    drop_last = False

    def __init__(self, lengths: Sequence[int], batch_size: int, n_steps: int, seed: int) -> None:
        self._lengths = np.asarray(lengths)
        self.batch_size = batch_size
        self._n_steps = n_steps
        self._seed = seed

    def __len__(self) -> int:
        return self._n_steps

    def __iter__(self) -> Iterator[list[int]]:
        n_given, epoch = 0, 0
        while n_given < self._n_steps:
            for batch in self._epoch(epoch)[: self._n_steps - n_given]:
                yield batch
                n_given += 1
            epoch += 1

    def _epoch(self, epoch: int) -> list[list[int]]:
        random = np.random.default_rng([self._seed, epoch])
        order = random.permutation(len(self._lengths))
        window = self.batch_size * _WINDOW_BATCHES
        batches: list[list[int]] = []
        for start in range(0, len(order), window):
            chunk = order[start : start + window]
            chunk = chunk[np.argsort(self._lengths[chunk], kind="stable")]
            batches += [chunk[i : i + self.batch_size].tolist() for i in range(0, len(chunk), self.batch_size)]
        return [batches[i] for i in random.permutation(len(batches))]


def micro_batches(groups: Sequence[EncodedGroup], most_tokens: int) -> list[Sequence[EncodedGroup]]:
    """A batch in parts of whole groups, each of at most `most_tokens` tokens; one group may exceed it alone."""
    parts: list[list[EncodedGroup]] = [[]]
    for group in groups:
        if parts[-1] and sum(member.n_tokens for member in parts[-1]) + group.n_tokens > most_tokens:
            parts.append([])
        parts[-1].append(group)
    return list(parts)


class GroupCollator:
    """Groups to tensors, padded to no more than each slice needs.

    The pairs of a batch are sorted by length and cut into slices of about `slice_tokens` padded tokens. The model
    reads slice by slice; the loss sees the batch as one (groups, candidates) matrix.

    Args:
        encoder: Pads pairs.
        slice_tokens: Most padded tokens in a slice.
        n_workers: How many slices are computed side by side.
    """

    def __init__(self, encoder: PairEncoder, slice_tokens: int, n_workers: int = 1) -> None:
        self._encoder = encoder
        self._slice_tokens, self._n_workers = slice_tokens, n_workers

    def halve(self) -> bool:
        """Cut slices half as large from now on; False when one pair alone fills a slice already."""
        self._slice_tokens //= 2
        return self._slice_tokens * 2 > self._encoder.max_length

    def __call__(self, groups: Sequence[EncodedGroup]) -> dict[str, Any]:
        """Tensors of a batch.

        Returns:
            "slices": model inputs, list of dicts of (pairs, tokens) · "position": (groups, candidates), where each
            candidate's logit stands in the concatenated slices · "labels" and "mask": (groups, candidates).
        """
        import torch

        width = max(len(group.pairs) for group in groups)
        pairs = [pair for group in groups for pair in group.pairs]
        batches = length_batches([len(pair.ids) for pair in pairs], self._slice_tokens, self._n_workers)
        slot = np.empty(len(pairs), np.int64)
        slot[np.concatenate(batches)] = np.arange(len(pairs))
        position = np.zeros((len(groups), width), np.int64)
        labels = np.zeros((len(groups), width), np.float32)
        mask = np.zeros((len(groups), width), bool)
        start = 0
        for row, group in enumerate(groups):
            size = len(group.pairs)
            position[row, :size] = slot[start : start + size]
            labels[row, :size] = group.labels
            mask[row, :size] = True
            start += size
        return {
            "slices": [self._encoder.pad([pairs[i] for i in batch]) for batch in batches],
            "position": torch.from_numpy(position),
            "labels": torch.from_numpy(labels),
            "mask": torch.from_numpy(mask),
        }
