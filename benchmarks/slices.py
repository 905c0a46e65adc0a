"""What it brings to cut batches for the threads that take them side by side, beside batches as full as they may be."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.timing import alternate, table
from benchmarks.workload import mixed_pairs
from crosstune.bi_encoder import TextEncoder, load_bi_encoder
from crosstune.checkpoints import EMBEDDED, STARTER, load_reranker, resolve
from crosstune.lean import lean_vectors
from crosstune.pair_encoding import CPU_BATCH_TOKENS, PairEncoder, length_batches
from crosstune.scoring import TorchScorer
from crosstune.training.engine import Engine
from crosstune.training.trainer import token_ids

_ROUNDS = 12
_FULL, _CUT = "full", "cut for all"
_BATCH = 32

Batches = Sequence[NDArray[np.intp]]


def slices() -> dict[str, Any]:
    """Forward and backward passes, and scoring, of little work in bf16; as many threads as there are cores."""
    model, tokenizer = load_reranker(resolve(STARTER), dropout=0.0)
    rows: dict[str, Any] = {}
    for n_pairs in (32, 48):
        encoder = PairEncoder(tokenizer, 256)
        pairs = [encoder.pair(*encoder.tokenize(list(pair))) for pair in mixed_pairs(n_pairs)]
        engine = Engine(model, "bf16", token_ids([pair.ids for pair in pairs]))
        rows |= _step(f"training, {n_pairs} pairs", engine, encoder.pad, pairs)
    rows |= _questions()
    for n_pairs in (5, 10, 20, 50, 100):
        rows |= _scoring(TorchScorer(model, tokenizer, 512, "bf16"), n_pairs)
    return {"tokens at most": 256, "of scoring": 512, "rounds": _ROUNDS, "rows": rows}


def _questions() -> dict[str, Any]:
    """A step that tunes questions alone."""
    model = load_bi_encoder(resolve(EMBEDDED), "cpu")
    encoder = TextEncoder(model)
    texts = encoder.queries([query for query, _ in mixed_pairs(_BATCH)])
    engine = Engine(model, "bf16", token_ids(texts), lean_vectors(model))
    return _step(f"training, {_BATCH} questions", engine, encoder.pad, texts)


def _step(name: str, engine: Engine, pad: Callable[[Any], Any], texts: Sequence[Any]) -> dict[str, Any]:
    def gradients(parts: Any) -> None:
        engine.gradients(parts, torch.sum)
        engine.forget_gradients()

    lengths = [len(text) for text in texts]
    full, cut = length_batches(lengths, CPU_BATCH_TOKENS), length_batches(lengths, CPU_BATCH_TOKENS, engine.n_workers)
    sides = {
        side: partial(gradients, [pad([texts[i] for i in batch]) for batch in batches])
        for side, batches in ((_FULL, full), (_CUT, cut))
    }
    return _rows(name, sides, {_FULL: full, _CUT: cut}, len(texts))


def _scoring(scorer: TorchScorer, n_pairs: int) -> dict[str, Any]:
    """Full, but not so full that a thread is left without a batch."""
    pairs = scorer.encode(mixed_pairs(n_pairs, one_query=True))
    lengths, n_workers = [len(pair.ids) for pair in pairs], scorer._team.size
    full = length_batches(lengths, min(CPU_BATCH_TOKENS, math.ceil(sum(lengths) / n_workers)))
    cut = length_batches(lengths, CPU_BATCH_TOKENS, n_workers)

    def read(batch: NDArray[np.intp]) -> None:
        scorer._logits([pairs[i] for i in batch])

    def score(batches: Batches) -> None:
        with scorer._scoring():
            scorer._team.spread([partial(read, batch) for batch in batches])

    sides = {_FULL: partial(score, full), _CUT: partial(score, cut)}
    return _rows(f"scoring, {n_pairs} passages", sides, {_FULL: full, _CUT: cut}, n_pairs)


def _rows(
    name: str, sides: Mapping[str, Callable[[], object]], batches: Mapping[str, Batches], n_texts: int
) -> dict[str, Any]:
    found = table(alternate(sides, _ROUNDS), n_texts, _FULL)
    return {f"{name}, {side}": row | {"batches": len(batches[side])} for side, row in found.items()}
