"""Scoring pairs with a transformers model in this process."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from crosstune.errors import ConfigError
from crosstune.pair_encoding import EncodedPair, PairEncoder, length_batches
from crosstune.progress import Progress, silent
from crosstune.types import ScoreKind

if TYPE_CHECKING:
    import torch

Precision = Literal["fp32", "bf16"]

# Small batches win on a CPU (cache) and large ones on a GPU (parallelism).
_CPU_BATCH_TOKENS = 2048
_GPU_BATCH_TOKENS = 65536
# bf16 must be clearly faster to be worth its rounding.
_MIN_SPEEDUP = 1.2
# One timing that takes this long is not repeated: it is far above the noise.
_LONG_S = 5.0
_BOTH: tuple[Precision, Precision] = ("fp32", "bf16")


@dataclass(frozen=True, slots=True)
class ScoredPairs:
    """Scores in input order and what was cut.

    Attributes:
        logits: (pairs,) float64.
        truncated_share: Share of pairs of which a tail was cut, 0 to 1.
    """

    logits: NDArray[np.float64]
    truncated_share: float


class TorchScorer:
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

    score_kind = ScoreKind.LOGIT

    def __init__(self, model: Any, tokenizer: Any, max_length: int, precision: str = "fp32") -> None:
        if precision not in _BOTH:
            raise ConfigError(f'precision must be "fp32" or "bf16", found {precision!r}')
        self.encoder = PairEncoder(tokenizer, max_length)
        self.precision = precision
        self._model = _in_bf16(model) if precision == "bf16" else model
        self._device = next(model.parameters()).device
        self._max_tokens = _CPU_BATCH_TOKENS if self._device.type == "cpu" else _GPU_BATCH_TOKENS

    def score_pairs(self, pairs: Sequence[tuple[str, str]], progress: Progress = silent) -> NDArray[np.float64]:
        """Logits of (query, passage) pairs, in input order."""
        return self.score(pairs, progress).logits

    def score(self, pairs: Sequence[tuple[str, str]], progress: Progress = silent) -> ScoredPairs:
        """Logits and the share of pairs that were cut."""
        encoded = self.encode(pairs)
        truncated = sum(pair.truncated for pair in encoded)
        return ScoredPairs(self.score_encoded(encoded, progress), truncated / max(1, len(encoded)))

    def encode(self, pairs: Sequence[tuple[str, str]]) -> list[EncodedPair]:
        """Token ids of pairs; every distinct text is tokenised once."""
        texts = list(dict.fromkeys(text for pair in pairs for text in pair))
        tokens = dict(zip(texts, self.encoder.tokenize(texts), strict=True))
        return [self.encoder.pair(tokens[query], tokens[passage]) for query, passage in pairs]

    def score_encoded(self, encoded: Sequence[EncodedPair], progress: Progress = silent) -> NDArray[np.float64]:
        """Logits of encoded pairs, in input order."""
        import torch

        logits = np.empty(len(encoded), np.float64)
        was_training = self._model.training
        self._model.eval()
        with torch.inference_mode(), progress("Scoring pairs", len(encoded)) as advance:
            for batch in length_batches([len(pair.ids) for pair in encoded], self._max_tokens):
                inputs = self.encoder.pad([encoded[i] for i in batch])
                inputs = {name: tensor.to(self._device) for name, tensor in inputs.items()}
                logits[batch] = self._model(**inputs).logits[:, 0].double().cpu().numpy()  # (batch,)
                advance(len(batch))
        self._model.train(was_training)
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
    """Precision to score with on this machine, by timing both on a few of the user's pairs.

    bf16 is several times faster on processors with bf16 instructions and several times slower without.

    Returns:
        (precision, useful tokens a second with it).
    """
    speed = {precision: _tokens_per_s(model, tokenizer, max_length, precision, pairs, clock) for precision in _BOTH}
    chosen: Precision = "bf16" if speed["bf16"] > _MIN_SPEEDUP * speed["fp32"] else "fp32"
    return chosen, speed[chosen]


def _tokens_per_s(
    model: Any,
    tokenizer: Any,
    max_length: int,
    precision: Precision,
    pairs: Sequence[tuple[str, str]],
    clock: Callable[[], float],
) -> float:
    scorer = TorchScorer(model, tokenizer, max_length, precision)
    encoded = scorer.encode(pairs)
    seconds = math.inf
    for _ in range(2):
        start = clock()
        scorer.score_encoded(encoded)
        seconds = min(seconds, clock() - start)
        if seconds > _LONG_S:
            break
    return sum(len(pair.ids) for pair in encoded) / seconds


def best_device() -> torch.device:
    """The first CUDA device, else the CPU."""
    import torch

    return torch.device("cuda" if torch.cuda.is_available() else "cpu")
