"""A saved model in use: rank passages for a question, judge pairs."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from crosstune.bundle import ModelBundle, load_bundle
from crosstune.errors import ConfigError
from crosstune.progress import Progress, silent
from crosstune.scoring.cache import CachedScorer, ScoreCache, model_hash
from crosstune.scoring.deadline import score_within
from crosstune.scoring.fusion import fuse
from crosstune.scoring.runtimes import open_scorer


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
        reranked: False when the deadline came first: it stands behind all that were reached, in first-stage order,
            with `logit`, `probability` and `score` None and `answers` False.
    """

    index: int
    rank: int
    logit: float | None
    probability: float | None
    answers: bool
    score: float | None
    reranked: bool = True


class Reranker:
    """A saved crosstune model.

    Args:
        bundle: From `load_bundle`.
        precision: "fp32", "bf16" or "int8"; None for what the runtime has, in torch float32.
        runtime: "auto", "torch", "onnx" or "openvino"; see `open_scorer`. Without exports "auto" is torch in float32,
            whose scores are the same on every machine.

    Example:
        `Reranker.load("runs/demo").rank("How do I reset my password?", passages)[0].index`
    """

    def __init__(self, bundle: ModelBundle, precision: str | None = None, runtime: str = "auto") -> None:
        self.bundle = bundle
        self.scorer = open_scorer(bundle, runtime, precision)

    @classmethod
    def load(cls, path: str | Path, runtime: str = "auto", precision: str | None = None) -> Reranker:
        """Load a model folder, or the run folder it is in.

        Args:
            path: The folder.
            runtime, precision: As of the class.

        Raises:
            BundleError: Not a crosstune model folder.
            ConfigError: No such runtime or precision, or the folder holds no such export.
            MissingExtraError: The runtime's extra is not installed.
        """
        return cls(load_bundle(path), precision, runtime)

    def rank(
        self,
        query: str,
        passages: Sequence[str],
        first_stage_scores: Sequence[float] | None = None,
        deadline_ms: float | None = None,
    ) -> list[RankedPassage]:
        """Rank passages for a question, best first; equal scores keep input order.

        Args:
            query: The question.
            passages: Texts.
            first_stage_scores: The first stage's scores of the passages, higher is better. When given and the
                bundle recommends fusion, the ranking is by the fused score that was judged.
            deadline_ms: Rerank as many passages as fit into this time, the first 8 in any case. They are taken in
                first-stage order: by `first_stage_scores`, else as given. None reranks all.

        Raises:
            ConfigError: Not one first-stage score for each passage, or a deadline that is not above 0.
        """
        if first_stage_scores is not None and len(first_stage_scores) != len(passages):
            raise ConfigError(f"{len(passages)} passages but {len(first_stage_scores)} first-stage scores")
        if deadline_ms is not None and not deadline_ms > 0:
            raise ConfigError(f"the deadline must be above 0 ms, found {deadline_ms:g}; leave it out to rerank all")
        first_stage = None if first_stage_scores is None else np.asarray(first_stage_scores, np.float64)
        order = np.arange(len(passages))
        if deadline_ms is not None and first_stage is not None:
            order = np.argsort(-first_stage, kind="stable")
        logits = self._logits([(query, passages[i]) for i in order.tolist()], deadline_ms)
        reached, late = order[: len(logits)], order[len(logits) :].tolist()
        ranked = self._ranked(reached, logits, None if first_stage is None else first_stage[reached])
        behind = enumerate(late, start=len(ranked) + 1)
        return ranked + [RankedPassage(i, rank, None, None, False, None, reranked=False) for rank, i in behind]

    def _logits(self, pairs: Sequence[tuple[str, str]], deadline_ms: float | None) -> NDArray[np.float64]:
        """Logits of the pairs, with a deadline of the first of them."""
        if deadline_ms is None:
            return self.scorer.score_pairs(pairs)
        return score_within(self.scorer.score_pairs, pairs, deadline_ms / 1000, self.bundle.max_length)

    def _ranked(
        self, reached: NDArray[np.intp], logits: NDArray[np.float64], first_stage: NDArray[np.float64] | None
    ) -> list[RankedPassage]:
        """Ranking of the passages that have a logit; all arrays (reached,) in the same order."""
        scores = logits
        if first_stage is not None and self.bundle.fusion is not None:
            scores = fuse(logits, first_stage, self.bundle.fusion.weight)
        chances = self.bundle.calibration.probability(logits)
        threshold = self.bundle.calibration.threshold
        return [
            RankedPassage(
                int(reached[i]),
                rank,
                float(logits[i]),
                float(chances[i]),
                bool(chances[i] >= threshold),
                float(scores[i]),
            )
            # By input order among equals, whatever the order in which they were reached.
            for rank, i in enumerate(np.lexsort((reached, -scores)), start=1)
        ]

    def probabilities(self, pairs: Sequence[tuple[str, str]], progress: Progress = silent) -> NDArray[np.float64]:
        """Calibrated probability of each (query, passage) pair, in input order."""
        return self.bundle.calibration.probability(self.scorer.score_pairs(pairs, progress))

    def with_cache(self, path: str | Path) -> Reranker:
        """The same model over a score cache: pairs it has scored before are read from a file.

        Args:
            path: The cache's file, made when needed; several models and processes may share it.

        Raises:
            ConfigError: The file cannot be used as a cache.
        """
        cached = copy.copy(self)
        cached.scorer = CachedScorer(self.scorer, ScoreCache(path), model_hash(self.bundle.path))
        return cached
