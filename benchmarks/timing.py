"""Timing two or more sides in turn, and what the machine can do at most."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import spearmanr

from crosstune.scoring import n_processors, processor_name

_MATRIX_S = 2.0


def alternate(sides: Mapping[str, Callable[[], object]], n_rounds: int, n_warmup: int = 1) -> dict[str, list[float]]:
    """Seconds of every side, taken in turn so that a slow minute hits all of them; warm-up rounds do not count.

    A side that gives a number of seconds itself is taken at its word: it measures in another process, or leaves
    its own set-up out.
    """
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for number in range(n_rounds + n_warmup):
        for name, work in sides.items():
            start = time.perf_counter()
            own = work()
            taken = own if isinstance(own, float) else time.perf_counter() - start
            if number >= n_warmup:
                seconds[name].append(round(taken, 4))
    return seconds


def table(seconds: Mapping[str, list[float]], n_pairs: int, reference: str) -> dict[str, dict[str, Any]]:
    """Pairs a second (median), spread of the seconds, and ratio to the reference side."""
    median = {name: statistics.median(values) for name, values in seconds.items()}
    return {
        name: {
            "pairs_per_s": round(n_pairs / median[name], 2),
            "seconds": values,
            "spread": round((max(values) - min(values)) / median[name], 3),
            "ratio": round(median[reference] / median[name], 2),
        }
        for name, values in seconds.items()
    }


def add_agreement(
    rows: Mapping[str, dict[str, Any]], logits: Mapping[str, NDArray[np.float64]], reference: str
) -> None:
    """Add to each row how far its logits are from the reference's, and how alike both order the pairs."""
    for name, row in rows.items():
        row["largest_logit_difference"] = float(np.abs(logits[name] - logits[reference]).max())
        row["rank_correlation"] = round(float(spearmanr(logits[name], logits[reference]).statistic), 5)


def matrix_flops(precision: str, width: int, device: str = "cpu") -> float:
    """Floating-point operations a second of the matrix products of a model of this width: (rows, w) by (w, 4 w)."""
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    n_rows = 2048 if device == "cpu" else 16384
    inputs, weight = (torch.randn(n, width).to(device, dtype) for n in (n_rows, 4 * width))
    times: list[float] = []
    with torch.no_grad():
        # Whole seconds of it: some processors are three times as fast for the first moments.
        while sum(times) < _MATRIX_S:
            start = time.perf_counter()
            torch.nn.functional.linear(inputs, weight)
            if device != "cpu":
                torch.cuda.synchronize()
            times.append(time.perf_counter() - start)
    return 2 * n_rows * width * 4 * width / statistics.median(times[len(times) // 2 :])


def machine() -> dict[str, object]:
    """What the figures depend on."""
    return {
        "processor": processor_name(),
        "cpus": n_processors(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "cpu capability": torch.backends.cpu.get_cpu_capability(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
    }
