"""The base reranker as it is, for a model folder that would hold no cross-encoder."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from crosstune.checkpoints import Checkpoint, load_reranker
from crosstune.pair_encoding import longest_pair
from crosstune.progress import silent
from crosstune.recipes.choose import UNCALIBRATED, calibrated
from crosstune.recipes.prepare import Prepared, top_of
from crosstune.recipes.reading import score_run
from crosstune.scoring import TorchScorer, best_device
from crosstune.types import Calibration

_LONGEST = 512
# Enough pairs for a scale of two numbers, few enough to read in seconds where time was short before.
_N_DEV, _DEPTH = 40, 10


@dataclass(frozen=True, slots=True)
class UntunedReranker:
    """A reranker that is saved as it came.

    Attributes:
        model, tokenizer: transformers objects, float32.
        max_length: Most tokens of a pair.
        calibration: Its logit to probability on a sample of the dev questions.
    """

    model: Any
    tokenizer: Any
    max_length: int
    calibration: Calibration


def untuned_reranker(base: Checkpoint, prepared: Prepared) -> UntunedReranker:
    """Load the base and calibrate it on the top candidates of the first dev questions."""
    model, tokenizer = load_reranker(base, dropout=0.0)
    model = model.to(best_device())
    max_length = longest_pair(model.config, _LONGEST)
    dev = prepared.splits.dev[:_N_DEV]
    run = top_of(prepared.candidates, dev, _DEPTH)
    scorer = TorchScorer(model, tokenizer, max_length, "fp32")
    logits, _ = score_run(scorer, prepared.collection, run, dev, silent)
    calibration, _ = calibrated(logits, run, prepared.collection.qrels, ())
    return UntunedReranker(model, tokenizer, max_length, calibration or UNCALIBRATED)
