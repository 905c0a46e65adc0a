"""Pairs a second in training: sentence-transformers' CrossEncoderTrainer with its defaults, and our engine."""

from __future__ import annotations

import math
import multiprocessing
import resource
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.timing import alternate, matrix_flops, table
from benchmarks.workload import MAX_LENGTH, MINILM, XLMR, mixed_pairs, save_model
from crosstune.checkpoints import Checkpoint, CheckpointKind, load_reranker, quiet_transformers
from crosstune.pair_encoding import PairEncoder
from crosstune.training import EncodedGroup, TrainingSettings, make_loss, measure_training
from crosstune.training.batches import GroupCollator, LengthGroupedSampler, slice_tokens
from crosstune.training.engine import Engine, Optimizer
from crosstune.training.loop import Batches
from crosstune.training.memory import tokens_at_once

# Sixteen of the large model are what sentence-transformers' side can hold in 24 GiB at 512 tokens.
BATCH_PAIRS = {MINILM: 48, XLMR: 16}
_MEMORY_PAIRS = 48
_N_PAIRS = {MINILM: 96, XLMR: 32}
_ROUNDS = {MINILM: 3, XLMR: 1}


def training(size: str, max_length: int = MAX_LENGTH) -> dict[str, Any]:
    """Both sides over the same pairs, with as many updates; ours in bf16, in fp32 and as measured on this machine."""
    pairs = mixed_pairs(_N_PAIRS[size])
    with tempfile.TemporaryDirectory() as folder:
        save_model(size, Path(folder))
        prepared = {
            precision: Ours(folder, pairs, precision, BATCH_PAIRS[size], max_length) for precision in ("bf16", "fp32")
        }
        sides: dict[str, Callable[[], object]] = {
            "sentence-transformers, defaults": theirs(folder, pairs, BATCH_PAIRS[size], max_length),
            "crosstune bf16": prepared["bf16"],
            "crosstune fp32": prepared["fp32"],
        }
        seconds = alternate(sides, _ROUNDS[size], n_warmup=1 if size == MINILM else 0)
    rows = table(seconds, len(pairs), "sentence-transformers, defaults")
    for precision, ours in prepared.items():
        rows[f"crosstune {precision}"] |= ours.share_of_peak(rows[f"crosstune {precision}"]["pairs_per_s"])
    updates = math.ceil(len(pairs) / BATCH_PAIRS[size])
    return {"pairs": len(pairs), "updates": updates, "tokens at most": max_length, "rows": rows}


class Ours:
    """Our engine over the pairs once, from collation to optimizer; nothing is saved, as on their side."""

    def __init__(
        self,
        folder: str,
        pairs: list[tuple[str, str]],
        precision: str,
        batch_pairs: int,
        max_length: int = MAX_LENGTH,
        device: str = "cpu",
    ) -> None:
        checkpoint = Checkpoint(folder, Path(folder), "", CheckpointKind.RERANKER)
        model, tokenizer = load_reranker(checkpoint, dropout=0.0)
        self._model, self._device = model.to(device), torch.device(device)
        self._max_length = max_length
        self._model.train()
        encoder = PairEncoder(tokenizer, max_length)
        queries, passages = (encoder.tokenize([pair[side] for pair in pairs]) for side in (0, 1))
        encoded = [encoder.pair(query, passage) for query, passage in zip(queries, passages, strict=True)]
        self._groups = [EncodedGroup((pair,), (float(i % 6 == 0),)) for i, pair in enumerate(encoded)]
        found = measure_training(self._model, encoder, encoded[:16])
        self._attention = next(way.attention for way in found if way.precision == precision)
        self._model.set_attn_implementation(self._attention)
        self._settings = TrainingSettings(
            n_steps=math.ceil(len(pairs) / batch_pairs), batch_groups=batch_pairs, precision=precision
        )
        ids = sorted({int(i) for pair in encoded for i in pair.ids})
        self._engine = Engine(self._model, precision, ids)
        self._collator = GroupCollator(encoder, slice_tokens(device))
        self._width = int(self._model.config.hidden_size)
        self._flops = 3 * sum(_forward_flops(self._model.config, len(pair.ids)) for pair in encoded)
        self._precision = precision

    def __call__(self) -> None:
        settings, optimizer = self._settings, Optimizer(self._engine, self._settings)
        most = tokens_at_once(self._model.config, self._device, settings.precision, self._max_length)
        batches = Batches(self._engine, self._collator, self._groups, make_loss("bce"), most)
        lengths = [group.n_tokens for group in self._groups]
        for step, batch in enumerate(LengthGroupedSampler(lengths, settings.batch_groups, settings.n_steps, seed=0)):
            batches.gradients(batch)
            optimizer.step(step)
        if self._device.type == "cuda":
            torch.cuda.synchronize()

    def share_of_peak(self, pairs_per_s: float) -> dict[str, Any]:
        """What of the machine's matrix throughput is used at this speed."""
        flops = self._flops * pairs_per_s / len(self._groups)
        peak = matrix_flops(self._precision, self._width, self._device.type)
        return {
            "attention": self._attention,
            "gflops": round(flops / 1e9),
            "matrix_gflops": round(peak / 1e9),
            "share_of_matrix_throughput": round(flops / peak, 3),
        }


def _forward_flops(config: Any, n_tokens: int) -> float:
    """Operations that the logit of one pair needs: the last layer for the first token alone, no padding."""
    width, inner = config.hidden_size, config.intermediate_size
    whole = n_tokens * (8 * width**2 + 4 * width * inner) + 4 * n_tokens**2 * width
    last = n_tokens * 4 * width**2 + (4 * width**2 + 4 * width * inner) + 4 * n_tokens * width
    return float((config.num_hidden_layers - 1) * whole + last)


def theirs(
    folder: str,
    pairs: list[tuple[str, str]],
    batch_pairs: int,
    max_length: int = MAX_LENGTH,
    device: str = "cpu",
    bf16: bool = False,
) -> Callable[[], object]:
    """sentence-transformers' trainer over the pairs once; gives the seconds of training alone."""
    from datasets import Dataset
    from sentence_transformers import CrossEncoder, CrossEncoderTrainer, CrossEncoderTrainingArguments

    columns = {
        "query": [query for query, _ in pairs],
        "passage": [passage for _, passage in pairs],
        "label": [float(i % 6 == 0) for i in range(len(pairs))],
    }
    with quiet_transformers():
        model = CrossEncoder(folder, num_labels=1, max_length=max_length, device=device)

    def train() -> float:
        with tempfile.TemporaryDirectory() as output, quiet_transformers():
            arguments = CrossEncoderTrainingArguments(
                output_dir=output,
                num_train_epochs=1,
                per_device_train_batch_size=batch_pairs,
                save_strategy="no",
                report_to="none",
                disable_tqdm=True,
                use_cpu=device == "cpu",
                bf16=bf16,
            )
            trainer = CrossEncoderTrainer(model=model, args=arguments, train_dataset=Dataset.from_dict(columns))
            start = time.perf_counter()
            trainer.train()
            return time.perf_counter() - start

    return train


def peak_memory(size: str) -> dict[str, Any]:
    """Peak resident memory of a process that trains one batch of full-length pairs, both sides, in MiB."""
    context = multiprocessing.get_context("spawn")
    found = {}
    for name, side in (("crosstune bf16", "ours"), ("sentence-transformers, defaults", "theirs")):
        receiving, sending = context.Pipe(duplex=False)
        process = context.Process(target=partial(_train_full_length, size, side, sending))
        process.start()
        sending.close()
        try:
            found[name] = {"peak_mib": receiving.recv()}
        except EOFError:
            found[name] = {"peak_mib": None, "note": "the process was killed: out of memory"}
        process.join()
    return {"pairs": _MEMORY_PAIRS, "tokens": MAX_LENGTH, "rows": found}


def full_length_pairs(n: int) -> list[tuple[str, str]]:
    """Pairs that fill every token there is."""
    words = " ".join(passage for _, passage in mixed_pairs(40)).split()
    draw = np.random.default_rng(0)
    starts = draw.integers(len(words) - 600, size=n)
    return [("how does it work", " ".join(words[start : start + 600])) for start in starts]


def _train_full_length(size: str, side: str, sending: Any) -> None:
    pairs = full_length_pairs(_MEMORY_PAIRS)
    with tempfile.TemporaryDirectory() as folder:
        save_model(size, Path(folder))
        if side == "ours":
            Ours(folder, pairs, "bf16", _MEMORY_PAIRS)()
        else:
            theirs(folder, pairs, _MEMORY_PAIRS)()
    sending.send(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)
