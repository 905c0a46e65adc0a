"""How fast this machine trains this model, measured on the user's own pairs in a few seconds."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence, Sized
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from crosstune.bi_encoder import transformer_of
from crosstune.pair_encoding import length_batches
from crosstune.training.batches import slice_tokens
from crosstune.training.settings import TrainingSettings

T = TypeVar("T", bound=Sized)
Padded = TypeVar("Padded", bound=Sized, contravariant=True)

_ATTENTIONS = ("sdpa", "eager")
_PRECISIONS = ("fp32", "bf16")
_HOPELESS_S = 5.0
# Of the seconds of all texts, those that are put down to their tokens at least: the rest is noise's to take.
_LEAST_SHARE = 0.2


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
        tokens_per_s: Useful tokens (padding not counted), forward and backward, beside `step_s`.
        step_s: Seconds of an optimizer step however few its tokens are: launches, and the optimizer's own work.
    """

    precision: str
    attention: str
    tokens_per_s: float
    step_s: float

    def seconds(self, n_tokens: float) -> float:
        """Of an optimizer step over so many tokens."""
        return self.step_s + n_tokens / self.tokens_per_s


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
    found, n_tokens = [], sum(len(text) for text in texts)
    for attention in _ATTENTIONS:
        try:
            transformer_of(model).set_attn_implementation(attention)
        except ValueError:  # This architecture has no such implementation.
            continue
        for precision in _PRECISIONS:
            fitting, (all_s, one_s, optimizer_s) = _in_memory(model, encoder, texts, precision, clock)
            # What one text takes is mostly what any number would: launches, on a GPU nearly all of it.
            tokens_s = max(all_s - one_s, _LEAST_SHARE * all_s)
            found.append(Throughput(precision, attention, fitting / tokens_s, one_s + optimizer_s))
    model.zero_grad(set_to_none=True)
    return sorted(found, key=lambda throughput: throughput.seconds(n_tokens))


def _in_memory(
    model: Any, encoder: Padder[T], texts: Sequence[T], precision: str, clock: Callable[[], float]
) -> tuple[int, tuple[float, float, float]]:
    """Tokens of as many texts as memory holds, and their seconds: when it runs out, half of the texts are timed."""
    import torch

    from crosstune.out_of_memory import is_out_of_memory

    while True:
        try:
            return sum(len(text) for text in texts), _timed(model, encoder, texts, precision, clock)
        except RuntimeError as error:
            if not is_out_of_memory(error) or len(texts) == 1:
                raise
        # After the handler, which holds what did not fit.
        texts = texts[: len(texts) // 2]
        model.zero_grad(set_to_none=True)
        torch.cuda.empty_cache()


def _timed(
    model: Any, encoder: Padder[T], texts: Sequence[T], precision: str, clock: Callable[[], float]
) -> tuple[float, float, float]:
    """Seconds of the gradients of all texts, of those of the shortest one, and of the optimizer."""
    import torch

    from crosstune.lean import lean_vectors
    from crosstune.training.engine import Engine, Optimizer

    model.train()
    lengths = [len(text) for text in texts]
    tokens = slice_tokens(next(model.parameters()).device.type)
    used = encoder.pad(texts)["input_ids"].unique().tolist()
    engine = Engine(model, precision, used, None if transformer_of(model) is model else lean_vectors(model))
    optimizer = Optimizer(engine, TrainingSettings(n_steps=1))
    batches = length_batches(lengths, tokens, engine.n_workers)
    slices = [encoder.pad([texts[i] for i in batch]) for batch in batches]
    shortest = [encoder.pad([min(texts, key=len)])]

    def optimize() -> None:
        # Of zeros, at the rate of a warm-up's first step, which is 0: the weights stay as they are.
        for parameter in engine.parameters.values():
            parameter.grad = torch.zeros_like(parameter)
        optimizer.step(0)

    return (
        _least(lambda: engine.gradients(slices, torch.sum), clock),
        _least(lambda: engine.gradients(shortest, torch.sum), clock),
        _least(optimize, clock),
    )


def _least(work: Callable[[], object], clock: Callable[[], float]) -> float:
    """Seconds of the faster of two runs after one that warms up; of the first alone where it is hopeless already."""
    import torch

    seconds = math.inf
    for attempt in range(3):
        start = clock()
        work()
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        elapsed = clock() - start
        if attempt > 0 or elapsed > _HOPELESS_S:
            seconds = min(seconds, elapsed)
        if elapsed > _HOPELESS_S:
            break
    return seconds
