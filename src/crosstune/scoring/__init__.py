"""(query, passages) to scores and rankings."""

from __future__ import annotations

from crosstune.scoring.fusion import WEIGHTS, choose_weight, fuse, rerank
from crosstune.scoring.reranker import RankedPassage, Reranker
from crosstune.scoring.torch_scorer import Precision, ScoredPairs, TorchScorer, best_device, measure_scoring

__all__ = [
    "WEIGHTS",
    "Precision",
    "RankedPassage",
    "Reranker",
    "ScoredPairs",
    "TorchScorer",
    "best_device",
    "choose_weight",
    "fuse",
    "measure_scoring",
    "rerank",
]
