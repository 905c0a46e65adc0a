"""A bi-encoder's vectors by the lean pass, batches side by side: the library's `encode` does them one by one."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crosstune.bi_encoder.loading import Role, side_of
from crosstune.bi_encoder.text_encoder import TextEncoder
from crosstune.pair_encoding import CPU_BATCH_TOKENS, GPU_BATCH_TOKENS, length_batches
from crosstune.team import Team, torch_team

_ROLES: tuple[Role, ...] = ("query", "document")

_PROBE = ["refund", "The refund is paid to the card within thirty days. " * 6]
_LARGEST_DIFFERENCE = 1e-4


class LeanEncoder:
    """Texts to vectors as a model of BERT's or RoBERTa's family gives them.

    Args:
        model: From `load_bi_encoder`.

    Attributes:
        is_lean: Whether the model is of such a family; of others the own pass is run, in float32 alone.
    """

    def __init__(self, model: Any) -> None:
        from crosstune.lean import LeanLayers, lean_vectors

        self._texts = TextEncoder(model)
        self._turn = threading.Lock()  # the tokenizer keeps its settings for cutting and padding
        self._device = next(model.parameters()).device
        on_cpu = self._device.type == "cpu"
        self._max_tokens, self._team = (CPU_BATCH_TOKENS, torch_team()) if on_cpu else (GPU_BATCH_TOKENS, Team(1))
        self._sides = {role: side_of(model, role) for role in _ROLES}
        # Mostly one encoder embeds both: it is kept once.
        passes = {id(side): lean_vectors(side).eval() for side in self._sides.values()}
        self.is_lean = all(isinstance(forward, LeanLayers) for forward in passes.values())
        self._passes: dict[tuple[int, str], Any] = {(side, "fp32"): forward for side, forward in passes.items()}

    def agrees(self, encode: Callable[[list[str], Role], NDArray[np.float32]]) -> bool:
        """Whether its float32 vectors are those of the library, whose models may have steps that it knows nothing of.

        Args:
            encode: Texts and their role to the library's unit vectors.
        """
        if not self.is_lean:
            return False
        for role in _ROLES:
            expected, found = encode(_PROBE, role), self.vectors(_PROBE, role, "fp32")
            if expected.shape != found.shape or np.abs(expected - unit(found)).max() > _LARGEST_DIFFERENCE:
                return False
        return True

    def vectors(self, texts: Sequence[str], role: Role, precision: str) -> NDArray[np.float32]:
        """(texts, dimensions), not normalised unless the model does so itself.

        Args:
            texts: At least one.
            role: Whose prompt they get.
            precision: "fp32", or "bf16" for layers in bfloat16.
        """
        import torch

        from crosstune.out_of_memory import in_halves

        with self._turn:
            ids = self._texts.queries(texts) if role == "query" else self._texts.passages(texts)
            forward = self._pass(role, precision)
        rows: list[Any] = [None] * len(texts)

        def compute(places: Sequence[int]) -> NDArray[np.float32]:
            with torch.inference_mode():
                inputs = {name: t.to(self._device) for name, t in self._texts.pad([ids[i] for i in places]).items()}
                found: NDArray[np.float32] = forward(**inputs).float().cpu().numpy()
            return found

        def embed(batch: NDArray[np.intp]) -> None:
            places = batch.tolist()
            for place, row in zip(places, in_halves(compute, places), strict=True):
                rows[place] = row

        lengths = [len(text) for text in ids]
        batches = length_batches(lengths, self._max_tokens, self._team.size)
        self._team.spread([partial(embed, batch) for batch in batches])
        return np.stack(rows)

    def _pass(self, role: Role, precision: str) -> Any:
        from crosstune.lean import bf16_layers

        side = id(self._sides[role])
        if (side, precision) not in self._passes:
            self._passes[side, precision] = bf16_layers(self._passes[side, "fp32"])[0].eval()
        return self._passes[side, precision]


def unit(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Rows of length 1; rows of zeros stay."""
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    rows: NDArray[np.float32] = np.divide(vectors, lengths, out=np.zeros_like(vectors), where=lengths != 0)
    return rows
