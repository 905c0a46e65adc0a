"""(query, passages) to scores and rankings."""

from __future__ import annotations

from crosstune.scoring.base import BatchScorer, ScoredPairs, n_processors, processor_name
from crosstune.scoring.cosine_scorer import CosineScorer
from crosstune.scoring.fusion import fit_weights, fuse, reading_order, rerank, standardised, with_rest, with_unread
from crosstune.scoring.onnx_scorer import OnnxScorer
from crosstune.scoring.openvino_scorer import OpenVinoScorer, computes_in_bf16
from crosstune.scoring.reranker import RankedPassage, Reranker
from crosstune.scoring.runtimes import RUNTIMES, load_artefact, open_scorer
from crosstune.scoring.torch_scorer import Precision, TorchScorer, best_device, measure_scoring

__all__ = [
    "RUNTIMES",
    "BatchScorer",
    "CosineScorer",
    "OnnxScorer",
    "OpenVinoScorer",
    "Precision",
    "RankedPassage",
    "Reranker",
    "ScoredPairs",
    "TorchScorer",
    "best_device",
    "computes_in_bf16",
    "fit_weights",
    "fuse",
    "load_artefact",
    "measure_scoring",
    "n_processors",
    "open_scorer",
    "processor_name",
    "reading_order",
    "rerank",
    "standardised",
    "with_rest",
    "with_unread",
]
