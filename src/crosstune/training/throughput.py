"""How fast this machine trains this model, measured on the user's own pairs in a few seconds."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence, Sized
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from crosstune.bi_encoder import transformer_of
from crosstune.pair_encoding import length_batches
from crosstune.training.batches import slice_tokens

T = TypeVar("T", bound=Sized)
Padded = TypeVar("Padded", bound=Sized, contravariant=True)

_ATTENTIONS = ("sdpa", "eager")
_PRECISIONS = ("fp32", "bf16")


class Padder(Protocol[Padded]):
    """Tokenised texts to tensors: `PairEncoder` or `TextEncoder`."""

    def pad(self, texts: Sequence[Padded], /) -> dict[str, Any]:
        """Model inputs (texts, longest)."""
        ...


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
    encoder: Padder[T],
    texts: Sequence[T],
    clock: Callable[[], float] = time.perf_counter,
) -> list[Throughput]:
    """Time every precision and attention that this model offers, fastest first.

    Nothing is assumed of the machine: bf16 is several times faster with the right instructions and several times
    slower without them. The model's weights are not changed.

    Args:
        model: Reranker or bi-encoder to be trained.
        encoder: Pads pairs for a reranker, single texts for a bi-encoder.
        texts: A few of them such as training will see.
        clock: Seconds.
    """
    found = []
    for attention in _ATTENTIONS:
        try:
            transformer_of(model).set_attn_implementation(attention)
        except ValueError:  # This architecture has no such implementation.
            continue
        found += [Throughput(p, attention, _tokens_per_s(model, encoder, texts, p, clock)) for p in _PRECISIONS]
    model.zero_grad(set_to_none=True)
    return sorted(found, key=lambda throughput: -throughput.tokens_per_s)


def _tokens_per_s(
    model: Any, encoder: Padder[T], texts: Sequence[T], precision: str, clock: Callable[[], float]
) -> float:
    import torch

    from crosstune.lean import lean_vectors
    from crosstune.training.engine import Engine

    model.train()
    lengths = [len(text) for text in texts]
    tokens = slice_tokens(next(model.parameters()).device.type)
    used = encoder.pad(texts)["input_ids"].unique().tolist()
    engine = Engine(model, precision, used, None if transformer_of(model) is model else lean_vectors(model))
    batches = length_batches(lengths, tokens, engine.n_workers)
    slices = [encoder.pad([texts[i] for i in batch]) for batch in batches]
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
