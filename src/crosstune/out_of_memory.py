"""What to do when memory runs out: the same work in halves. Imports torch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

T = TypeVar("T")


def is_out_of_memory(error: RuntimeError) -> bool:
    """Whether torch says that memory ran out, on a GPU or on the CPU."""
    return isinstance(error, torch.OutOfMemoryError) or "not enough memory" in str(error)


def in_halves(compute: Callable[[Sequence[T]], NDArray[Any]], items: Sequence[T]) -> NDArray[Any]:
    """`compute(items)`, a row each; when memory runs out, of each half by itself, until one item alone does not fit.

    Raises:
        RuntimeError: What `compute` raises, also when one item does not fit.
    """
    try:
        return compute(items)
    except RuntimeError as error:
        if not is_out_of_memory(error) or len(items) < 2:
            raise
    torch.cuda.empty_cache()  # after the handler, which holds what did not fit
    middle = len(items) // 2
    return np.concatenate([in_halves(compute, items[:middle]), in_halves(compute, items[middle:])])
