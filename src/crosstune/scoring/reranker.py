"""A saved model in use: rank passages for a question, judge pairs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from crosstune.bundle import ModelBundle, load_bundle
from crosstune.checkpoints import Checkpoint, CheckpointKind, load_reranker
from crosstune.errors import ConfigError
from crosstune.progress import Progress, silent
from crosstune.scoring.fusion import fuse
from crosstune.scoring.torch_scorer import TorchScorer, best_device


@dataclass(frozen=True, slots=True)
class RankedPassage:
    """One passage of a ranking.

    Attributes:
        index: Place in the input, from 0.
        rank: 1 is best.
        logit: The reranker's raw score.
        probability: Calibrated probability that it answers the question.
        answers: Whether the probability reaches the no-answer threshold.
        score: What the ranking is by: the logit, or the fused score when first-stage scores were given.
    """

    index: int
    rank: int
    logit: float
    probability: float
    answers: bool
    score: float


class Reranker:
    """A saved crosstune model.

    Args:
        bundle: From `load_bundle`.
        precision: "fp32" or "bf16"; None for float32, whose scores are the same on every machine.

    Example:
        `Reranker.load("runs/demo").rank("How do I reset my password?", passages)[0].index`
    """

    def __init__(self, bundle: ModelBundle, precision: str | None = None) -> None:
        checkpoint = Checkpoint(str(bundle.path), bundle.path, "", CheckpointKind.RERANKER)
        model, tokenizer = load_reranker(checkpoint, dropout=0.0)
        self.bundle = bundle
        self.scorer = TorchScorer(model.to(best_device()), tokenizer, bundle.max_length, precision or "fp32")

    @classmethod
    def load(cls, path: str | Path, precision: str | None = None) -> Reranker:
        """Load a model folder, or the run folder it is in.

        Raises:
            BundleError: Not a crosstune model folder.
            MissingExtraError: The extra `train` is not installed.
        """
        return cls(load_bundle(path), precision)

    def rank(
        self, query: str, passages: Sequence[str], first_stage_scores: Sequence[float] | None = None
    ) -> list[RankedPassage]:
        """Rank passages for a question, best first; equal scores keep input order.

        Args:
            query: The question.
            passages: Texts.
            first_stage_scores: The first stage's scores of the passages, higher is better. When given and the
                bundle recommends fusion, the ranking is by the fused score that was judged.

        Raises:
            ConfigError: Not one first-stage score for each passage.
        """
        if first_stage_scores is not None and len(first_stage_scores) != len(passages):
            raise ConfigError(f"{len(passages)} passages but {len(first_stage_scores)} first-stage scores")
        logits = self.scorer.score_pairs([(query, passage) for passage in passages])
        scores = logits
        if first_stage_scores is not None and self.bundle.fusion is not None:
            scores = fuse(logits, np.asarray(first_stage_scores, np.float64), self.bundle.fusion.weight)
        chances = self.bundle.calibration.probability(logits)
        threshold = self.bundle.calibration.threshold
        return [
            RankedPassage(
                int(i),
                rank,
                float(logits[i]),
                float(chances[i]),
                bool(chances[i] >= threshold),
                float(scores[i]),
            )
            for rank, i in enumerate(np.argsort(-scores, kind="stable"), start=1)
        ]

    def probabilities(self, pairs: Sequence[tuple[str, str]], progress: Progress = silent) -> NDArray[np.float64]:
        """Calibrated probability of each (query, passage) pair, in input order."""
        return self.bundle.calibration.probability(self.scorer.score_pairs(pairs, progress))
