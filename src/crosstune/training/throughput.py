"""How fast this machine trains this model, measured on the user's own pairs in a few seconds."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from crosstune.pair_encoding import EncodedPair, PairEncoder, length_batches

_ATTENTIONS = ("sdpa", "eager")
_PRECISIONS = ("fp32", "bf16")


@dataclass(frozen=True, slots=True)
class Throughput:
    """Speed of one way to train.

    Attributes:
        precision, attention: The way.
        tokens_per_s: Useful tokens (padding not counted), forward and backward.
    """

    precision: str
    attention: str
    tokens_per_s: float


def measure_training(
    model: Any,
    encoder: PairEncoder,
    pairs: Sequence[EncodedPair],
    clock: Callable[[], float] = time.perf_counter,
) -> list[Throughput]:
    """Time every precision and attention that this model offers, fastest first.

    Nothing is assumed of the machine: bf16 is several times faster with the right instructions and several times
    slower without them. The model's weights are not changed.

    Args:
        model: The model to be trained, in training mode as training will run it.
        encoder: Pads pairs.
        pairs: A few pairs such as training will see.
        clock: Seconds.
    """
    found = []
    for attention in _ATTENTIONS:
        try:
            model.set_attn_implementation(attention)
        except ValueError:  # This architecture has no such implementation.
            continue
        found += [Throughput(p, attention, _tokens_per_s(model, encoder, pairs, p, clock)) for p in _PRECISIONS]
    model.zero_grad(set_to_none=True)
    return sorted(found, key=lambda throughput: -throughput.tokens_per_s)


def _tokens_per_s(
    model: Any, encoder: PairEncoder, pairs: Sequence[EncodedPair], precision: str, clock: Callable[[], float]
) -> float:
    import torch

    from crosstune.training.engine import Engine

    model.train()
    engine = Engine(model, precision)
    lengths = [len(pair.ids) for pair in pairs]
    slices = [encoder.pad([pairs[i] for i in batch]) for batch in length_batches(lengths, 2048)]
    seconds = float("inf")
    for attempt in range(3):
        start = clock()
        engine.gradients(slices, torch.sum)
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        elapsed = clock() - start
        # The first attempt warms up; when it is hopeless already, do not wait for more of it.
        if attempt > 0 or elapsed > 5:
            seconds = min(seconds, elapsed)
        if elapsed > 5:
            break
    return sum(lengths) / seconds
