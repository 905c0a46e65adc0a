"""Scoring pairs with a transformers model in this process."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from crosstune.errors import ConfigError
from crosstune.pair_encoding import CPU_BATCH_TOKENS, GPU_BATCH_TOKENS, EncodedPair, PairEncoder
from crosstune.scoring.base import BatchScorer
from crosstune.team import torch_team

if TYPE_CHECKING:
    import torch

Precision = Literal["fp32", "bf16"]

# bf16 must be clearly faster to be worth its rounding.
_MIN_SPEEDUP = 1.2
# One timing that takes this long is not repeated: it is far above the noise.
_LONG_S = 5.0
_N_ROUNDS = 3
_BOTH: tuple[Precision, Precision] = ("fp32", "bf16")


class TorchScorer(BatchScorer):
    """A `Scorer` over a sequence-classification model with one logit.

    The pair's logit does not depend on its company: batches only change rounding (below 1e-5 in fp32).

    Args:
        model: transformers model; left as it is (bf16 works on a copy).
        tokenizer: Its fast tokenizer.
        max_length: Most tokens of a pair.
        precision: "fp32", or "bf16" for bf16 weights with a float32 head.

    Raises:
        ConfigError: Another precision, or no room for a pair in `max_length`.
    """

    runtime = "torch"

    def __init__(self, model: Any, tokenizer: Any, max_length: int, precision: str = "fp32") -> None:
        from crosstune.lean import lean

        if precision not in _BOTH:
            raise ConfigError(f'precision must be "fp32" or "bf16", found {precision!r}')
        self._device = next(model.parameters()).device
        on_cpu = self._device.type == "cpu"
        max_tokens, team = (CPU_BATCH_TOKENS, torch_team()) if on_cpu else (GPU_BATCH_TOKENS, None)
        super().__init__(PairEncoder(tokenizer, max_length), precision, max_tokens, team)
        self._model = _in_bf16(model) if precision == "bf16" else model
        self._forward = lean(self._model)

    @contextmanager
    def _scoring(self) -> Iterator[None]:
        was_training = self._model.training
        self._forward.eval()
        yield
        self._forward.train(was_training)

    def _logits(self, pairs: Sequence[EncodedPair]) -> NDArray[np.float64]:
        from crosstune.out_of_memory import in_halves

        return in_halves(self._batch, pairs)

    def _batch(self, pairs: Sequence[EncodedPair]) -> NDArray[np.float64]:
        import torch

        with torch.inference_mode():  # which holds for this thread alone
            inputs = {name: tensor.to(self._device) for name, tensor in self.encoder.pad(pairs).items()}
            logits: NDArray[np.float64] = self._forward(**inputs).double().cpu().numpy()  # (batch,)
        return logits


def _in_bf16(model: Any) -> Any:
    """A bf16 copy whose last layer stays float32: bf16 logits would tie where the model does not."""
    import torch

    replica = copy.deepcopy(model)
    for parameter in replica.parameters():
        parameter.data = parameter.data.to(torch.bfloat16)  # buffers stay: rotary frequencies need their digits
    # By its one output: in some families the head is registered before the encoder.
    (head,) = (m for m in replica.modules() if isinstance(m, torch.nn.Linear) and m.out_features == 1)
    head.float()
    head.register_forward_pre_hook(lambda _module, inputs: tuple(tensor.float() for tensor in inputs))
    return replica


def measure_scoring(
    model: Any,
    tokenizer: Any,
    max_length: int,
    pairs: Sequence[tuple[str, str]],
    clock: Callable[[], float] = time.perf_counter,
) -> tuple[Precision, float]:
    """Precision to score with on this machine, by timing both on a few of the user's pairs, tokenising included.

    bf16 is several times faster on processors with bf16 instructions and several times slower without. A GPU takes
    less time for a small model than the tokenizer does.

    Returns:
        (precision, useful tokens a second with it).
    """
    scorers = {precision: TorchScorer(model, tokenizer, max_length, precision) for precision in _BOTH}
    seconds = dict.fromkeys(_BOTH, math.inf)
    # In turn, so that a busy moment of the machine does not fall on one of them alone; the first round warms up.
    for number in range(_N_ROUNDS):
        for precision, scorer in scorers.items():
            if number and seconds[precision] > _LONG_S:
                continue
            start = clock()
            scorer.score_pairs(pairs)
            seconds[precision] = min(seconds[precision], clock() - start)
    chosen: Precision = "bf16" if seconds["fp32"] > _MIN_SPEEDUP * seconds["bf16"] else "fp32"
    return chosen, sum(len(pair) for pair in scorers[chosen].encode(pairs)) / seconds[chosen]


def best_device() -> torch.device:
    """The first CUDA device, else the CPU."""
    import torch

    return torch.device("cuda" if torch.cuda.is_available() else "cpu")
