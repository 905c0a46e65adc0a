"""(query, passages) to scores and rankings."""

from __future__ import annotations

from crosstune.scoring.base import BatchScorer, ScoredPairs, n_processors, processor_name
from crosstune.scoring.fusion import WEIGHTS, choose_weight, fuse, rerank
from crosstune.scoring.onnx_scorer import OnnxScorer
from crosstune.scoring.openvino_scorer import OpenVinoScorer, computes_in_bf16
from crosstune.scoring.reranker import RankedPassage, Reranker
from crosstune.scoring.runtimes import RUNTIMES, load_artefact, open_scorer
from crosstune.scoring.torch_scorer import Precision, TorchScorer, best_device, measure_scoring

__all__ = [
    "RUNTIMES",
    "WEIGHTS",
    "BatchScorer",
    "OnnxScorer",
    "OpenVinoScorer",
    "Precision",
    "RankedPassage",
    "Reranker",
    "ScoredPairs",
    "TorchScorer",
    "best_device",
    "choose_weight",
    "computes_in_bf16",
    "fuse",
    "load_artefact",
    "measure_scoring",
    "n_processors",
    "open_scorer",
    "processor_name",
    "rerank",
]
