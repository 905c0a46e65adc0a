"""Rerankers in a quarter of their size: int8 weights on disk, float32 in use.

Every matrix is kept as int8 with one float32 scale a row (symmetric, rounded to nearest), vectors as float32. Nothing
is computed in int8: a model is dequantised when it is loaded, to be tuned or to score.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from crosstune.extras import require

QUANTISED = "model.int8.safetensors"
_SCALE = "/scale"
_LARGEST = 127


def quantise(weights: Mapping[str, Any]) -> dict[str, Any]:
    """State dictionary of float tensors to the tensors of the file."""
    torch = require("torch", extra="train", what="quantising a model")
    tensors: dict[str, Any] = {}
    for name, weight in weights.items():
        if weight.dim() < 2 or not weight.is_floating_point():
            tensors[name] = weight.contiguous()
            continue
        flat = weight.detach().float().flatten(1)  # (rows, values)
        scale = flat.abs().amax(dim=1).clamp_min(torch.finfo(torch.float32).tiny) / _LARGEST
        tensors[name] = (weight / scale.view(-1, *[1] * (weight.dim() - 1))).round().to(torch.int8)
        tensors[name + _SCALE] = scale
    return tensors


def dequantise(tensors: Mapping[str, Any]) -> dict[str, Any]:
    """The tensors of a file to a state dictionary in float32."""
    weights = {}
    for name, tensor in tensors.items():
        scale = tensors.get(name + _SCALE)
        if scale is not None:
            weights[name] = tensor.float() * scale.view(-1, *[1] * (tensor.dim() - 1))
        elif not name.endswith(_SCALE):
            weights[name] = tensor
    return weights


def save_quantised(weights: Mapping[str, Any], folder: Path) -> None:
    """Write a model's state dictionary into a folder."""
    require("torch", extra="train", what="quantising a model")
    from safetensors.torch import save_file

    save_file(quantise(weights), folder / QUANTISED)


def load_quantised(folder: Path) -> dict[str, Any]:
    """The state dictionary, in float32, that a folder holds."""
    require("torch", extra="train", what="loading a model")
    from safetensors.torch import load_file

    return dequantise(load_file(folder / QUANTISED))
