"""Training and scoring on a GPU: sentence-transformers with its defaults and in bf16, and ours, in turn."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.timing import add_agreement, alternate, table
from benchmarks.training import Ours, full_length_pairs, theirs
from benchmarks.workload import MAX_LENGTH, mixed_pairs, save_model
from crosstune.checkpoints import load_reranker, resolve
from crosstune.scoring import TorchScorer

_BATCH_PAIRS, _N_UPDATES, _ROUNDS = 48, 20, 3
_GIB = 2**30
_LIMIT_GIB = 16
_DEFAULTS, _BF16 = "sentence-transformers, defaults", "sentence-transformers, bf16"


def training(size: str) -> dict[str, Any]:
    """Both sides over the same pairs of mixed lengths, with as many updates."""
    pairs = mixed_pairs(_BATCH_PAIRS * _N_UPDATES)
    with tempfile.TemporaryDirectory() as folder:
        save_model(size, Path(folder))
        ours = {
            precision: Ours(folder, pairs, precision, _BATCH_PAIRS, device="cuda") for precision in ("bf16", "fp32")
        }
        sides: dict[str, Callable[[], object]] = {
            _DEFAULTS: theirs(folder, pairs, _BATCH_PAIRS, device="cuda"),
            _BF16: theirs(folder, pairs, _BATCH_PAIRS, device="cuda", bf16=True),
            **{f"crosstune {precision}": side for precision, side in ours.items()},
        }
        rows = table(alternate(sides, _ROUNDS), len(pairs), _DEFAULTS)
    for precision, side in ours.items():
        rows[f"crosstune {precision}"] |= side.share_of_peak(rows[f"crosstune {precision}"]["pairs_per_s"])
    return {"pairs": len(pairs), "updates": _N_UPDATES, "tokens at most": MAX_LENGTH, "rows": rows}


def memory(size: str) -> dict[str, Any]:
    """Most memory allocated while pairs of full length are trained in one batch; ours also with 16 GiB to use at most.

    The limit is the process's own: the engine is not told of it and finds out by running into it.
    """
    rows = {}
    total = torch.cuda.get_device_properties(0).total_memory
    with tempfile.TemporaryDirectory() as folder:
        save_model(size, Path(folder))
        for name, n_pairs, limit in (
            (_DEFAULTS, 48, None),
            (_BF16, 48, None),
            ("crosstune bf16", 48, None),
            ("crosstune bf16, 512 pairs, 16 GiB at most", 512, _LIMIT_GIB * _GIB),
            ("crosstune fp32, 512 pairs, 16 GiB at most", 512, _LIMIT_GIB * _GIB),
        ):
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()
            torch.cuda.set_per_process_memory_fraction(1.0 if limit is None else limit / total)
            pairs = full_length_pairs(n_pairs)
            if name.startswith("crosstune"):
                Ours(folder, pairs, name.split()[1].strip(","), n_pairs, device="cuda")()
            else:
                theirs(folder, pairs, n_pairs, device="cuda", bf16=name == _BF16)()
            rows[name] = {"pairs": n_pairs, "peak_mib": torch.cuda.max_memory_reserved() // 2**20}
    torch.cuda.set_per_process_memory_fraction(1.0)
    return {"tokens": MAX_LENGTH, "rows": rows}


def scoring(size: str, n_pairs: int, one_query: bool) -> dict[str, Any]:
    """Both sides over the same pairs, with how far their logits are from sentence-transformers' in fp32."""
    from sentence_transformers import CrossEncoder

    pairs = mixed_pairs(n_pairs, one_query=one_query)
    with tempfile.TemporaryDirectory() as folder:
        save_model(size, Path(folder))
        model, tokenizer = load_reranker(resolve(folder), dropout=0.0)
        model.to("cuda")

        def library(**options: Any) -> Callable[[], Any]:
            encoder = CrossEncoder(
                folder, max_length=MAX_LENGTH, device="cuda", activation_fn=torch.nn.Identity(), **options
            )
            return lambda: encoder.predict(pairs, show_progress_bar=False)

        def own(precision: str) -> Callable[[], Any]:
            scorer = TorchScorer(model, tokenizer, MAX_LENGTH, precision)
            return lambda: scorer.score_pairs(pairs)

        sides = {
            _DEFAULTS: library(),
            _BF16: library(model_kwargs={"dtype": torch.bfloat16}),
            "crosstune fp32": own("fp32"),
            "crosstune bf16": own("bf16"),
        }
        rows = table(alternate(sides, _ROUNDS), n_pairs, _DEFAULTS)
        logits = {name: np.asarray(side(), np.float64) for name, side in sides.items()}
    add_agreement(rows, logits, _DEFAULTS)
    for row in rows.values():
        row["milliseconds"] = round(1e3 * math.fsum(row["seconds"]) / len(row["seconds"]), 1)
    return {"pairs": n_pairs, "one_query": one_query, "rows": rows}
