"""How many tokens of a batch can be in the graph at once. Imports torch."""

from __future__ import annotations

import os
from typing import Any

import torch

# Share of the free memory that activations may take; the rest is for gradients, buffers and the unexpected.
_SHARE = 0.5
_FEWEST_TOKENS = 512


def tokens_at_once(config: Any, device: torch.device, precision: str, max_length: int) -> int:
    """Most padded tokens whose activations fit into the free memory.

    Reckoned from the widths of a layer: about 16 tensors of the hidden width and 3 of the inner one are kept for the
    backward pass, and 3 of (heads, tokens) where attention is written out.

    Args:
        config: Of the model.
        device: Where it trains.
        precision: "fp32" or "bf16".
        max_length: Most tokens of a pair.
    """
    hidden = getattr(config, "hidden_size", None) or config.dim
    inner = getattr(config, "intermediate_size", None) or getattr(config, "hidden_dim", 4 * hidden)
    n_layers = getattr(config, "num_hidden_layers", None) or config.n_layers
    n_heads = getattr(config, "num_attention_heads", None) or config.n_heads
    values = n_layers * (16 * hidden + 3 * inner + 3 * n_heads * max_length)
    return max(_FEWEST_TOKENS, int(_SHARE * free_bytes(device) / (values * (2 if precision == "bf16" else 4))))


def free_bytes(device: torch.device) -> int:
    """Memory that is free on the device."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    try:
        with open("/proc/meminfo", encoding="ascii") as file:
            found = next(line for line in file if line.startswith("MemAvailable:"))
        return int(found.split()[1]) * 1024
    except (OSError, StopIteration):
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
