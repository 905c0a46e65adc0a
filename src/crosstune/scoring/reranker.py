"""A saved model in use: rank passages for a question, judge pairs."""

from __future__ import annotations

import copy
import threading
import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from crosstune.bi_encoder import SentenceTransformerEmbedder
from crosstune.bundle import ModelBundle, load_bundle
from crosstune.checkpoints import Checkpoint, CheckpointKind, resolve
from crosstune.errors import BundleError, ConfigError, MissingExtraError
from crosstune.extras import require
from crosstune.known_questions import load_known_questions
from crosstune.language import language_of
from crosstune.lexical import LexicalIndex, remembering
from crosstune.progress import Progress, silent
from crosstune.scoring.base import BatchScorer
from crosstune.scoring.cache import CachedScorer, PairCache, ScoreCache, model_hash
from crosstune.scoring.cosine_scorer import CosineScorer, KnownQuestionScorer
from crosstune.scoring.deadline import score_within
from crosstune.scoring.fusion import fuse, reading_order, standardised, with_unread
from crosstune.scoring.runtimes import open_scorer, require_known
from crosstune.types import Calibration, Part, Reading

Scores = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class RankedPassage:
    """One passage of a ranking.

    Attributes:
        index: Place in the input, from 0.
        rank: 1 is best.
        logit: The cross-encoder's raw score; None when it has no part in this ranking, or was not to read this passage
            (`Fusion.reading`).
        probability: Calibrated probability that it answers the question; None when parts of the score that was
            calibrated are missing.
        answers: Whether the probability reaches the no-answer threshold.
        score: What the ranking is by.
        reranked: False when the deadline came first: it stands behind all that were reached, in the order in which
            it would have been read, with `logit`, `probability` and `score` None and `answers` False.
    """

    index: int
    rank: int
    logit: float | None
    probability: float | None
    answers: bool
    score: float | None
    reranked: bool = True


class Reranker:
    """A saved crosstune model: a cross-encoder, a tuned bi-encoder, or both, joined as they were judged.

    Args:
        bundle: From `load_bundle`.
        precision: "fp32", "bf16" or "int8" of the cross-encoder; None for what the runtime has, in torch float32.
        runtime: "auto", "torch", "onnx" or "openvino"; see `open_scorer`. Without exports "auto" is torch in float32,
            whose scores are the same on every machine.

    Attributes:
        bundle: As given.
        missing: Part of the recommended score -> why it is left out here.

    Example:
        `Reranker.load("runs/demo").rank("How do I reset my password?", passages)[0].index`
    """

    def __init__(self, bundle: ModelBundle, precision: str | None = None, runtime: str = "auto") -> None:
        require_known(runtime, precision)
        self.bundle = bundle
        self._precision, self._runtime = precision, runtime
        self._cache: ScoreCache | None = None
        # Not every tokenizer and stemmer may be used by two threads at once, and one ranking keeps all processors busy.
        self._turn = threading.Lock()
        self.missing: dict[Part, str] = {}
        self._embedder: SentenceTransformerEmbedder | None = None
        self._cosines = self._open_bi_encoder()
        self._known = self._open_known_questions()
        self._cut = None if bundle.fusion is None else remembering(language_of(bundle.fusion.language))
        if self._wants(Part.CROSS_ENCODER):
            if bundle.has_cross_encoder:
                self.scorer  # noqa: B018 - a wrong runtime or precision is told now
            else:
                self.missing[Part.CROSS_ENCODER] = f"{bundle.path} holds no cross-encoder"

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

    @cached_property
    def scorer(self) -> BatchScorer:
        """The cross-encoder.

        Raises:
            BundleError: The folder holds none.
        """
        if not self.bundle.has_cross_encoder:
            raise BundleError(
                f"{self.bundle.path} holds a tuned bi-encoder and no cross-encoder, so pairs have no logit; tune one "
                "with `crosstune tune --stages both`"
            )
        scorer = open_scorer(self.bundle, self._runtime, self._precision)
        return scorer if self._cache is None else CachedScorer(scorer, self._cache, model_hash(self.bundle.path))

    def parts(self, with_first_stage: bool = False) -> tuple[Part, ...]:
        """What a ranking is by, with or without first-stage scores: the recommended parts that are there."""
        fusion = self.bundle.fusion
        wanted = (Part.CROSS_ENCODER,) if fusion is None else tuple(fusion.weights)
        there = tuple(
            part for part in wanted if part not in self.missing and (with_first_stage or part is not Part.FIRST_STAGE)
        )
        return there if there or not self.bundle.has_cross_encoder else (Part.CROSS_ENCODER,)

    def rank(
        self,
        query: str,
        passages: Sequence[str],
        first_stage_scores: Sequence[float] | None = None,
        deadline_ms: float | None = None,
    ) -> list[RankedPassage]:
        """Rank passages for a question, best first; equal scores keep input order. Threads wait for each other.

        Args:
            query: The question.
            passages: Texts.
            first_stage_scores: The first stage's scores of the passages, higher is better. They count when they were
                a part of the score that was judged.
            deadline_ms: Let the cross-encoder read as many passages as fit into this time, the first 8 in any case.
                They are taken in first-stage order: by `first_stage_scores`, else as given; where it reads only the
                best by the other parts, in their order. None reads all that it is to read.

        Raises:
            ConfigError: Not one first-stage score for each passage, or a deadline that is not above 0.
        """
        if first_stage_scores is not None and len(first_stage_scores) != len(passages):
            raise ConfigError(f"{len(passages)} passages but {len(first_stage_scores)} first-stage scores")
        if first_stage_scores is not None and not np.isfinite(np.asarray(first_stage_scores, np.float64)).all():
            raise ConfigError("a first-stage score is not a finite number; leave the passage or the scores out")
        if deadline_ms is not None and not deadline_ms > 0:
            raise ConfigError(f"the deadline must be above 0 ms, found {deadline_ms:g}; leave it out to rerank all")
        first_stage = None if first_stage_scores is None else np.asarray(first_stage_scores, np.float64)
        with self._turn:
            return self._rank(query, passages, first_stage, deadline_ms)

    def _rank(
        self, query: str, passages: Sequence[str], first_stage: Scores | None, deadline_ms: float | None
    ) -> list[RankedPassage]:
        parts, start = self.parts(first_stage is not None), time.perf_counter()
        order, n_to_read = np.arange(len(passages)), len(passages)
        if Part.CROSS_ENCODER not in parts:
            return self._ranked(order, self._part_scores(parts, query, passages, first_stage, order), None)
        reading = self._reading(len(passages))
        if first_stage is not None and (reading is not None or deadline_ms is not None):
            order = np.argsort(-first_stage, kind="stable")
        found: dict[Part, Scores] | None = None
        if reading is not None:
            found = self._part_scores({*parts, *reading.weights}, query, passages, first_stage, order)
            places, n_to_read = reading_order(found, reading, len(order)), reading.n
            order, found = order[places], {part: found[part][places] for part in parts if part in found}
        left_ms = None if deadline_ms is None else deadline_ms - 1000 * (time.perf_counter() - start)
        logits = self._logits([(query, passages[i]) for i in order[:n_to_read].tolist()], left_ms)
        late = len(logits) < n_to_read
        reached = order[: len(logits)] if late else order
        if found is None:
            found = self._part_scores(parts, query, passages, first_stage, reached)
        found = {part: scores[: len(reached)] for part, scores in found.items()}
        ranked = self._ranked(reached, found, logits)
        behind = enumerate(order[len(reached) :].tolist(), start=len(ranked) + 1)
        return ranked + [RankedPassage(i, rank, None, None, False, None, reranked=False) for rank, i in behind]

    def _reading(self, n_passages: int) -> Reading | None:
        """What the cross-encoder reads of so many passages; None for all."""
        reading = None if self.bundle.fusion is None else self.bundle.fusion.reading
        return reading if reading is not None and reading.n < n_passages else None

    def _logits(self, pairs: Sequence[tuple[str, str]], deadline_ms: float | None) -> Scores:
        """Logits of the pairs, with a deadline of the first of them."""
        if deadline_ms is None:
            return self.scorer.score_pairs(pairs)
        return score_within(self.scorer.score_pairs, pairs, deadline_ms / 1000, self.bundle.max_length)

    def _part_scores(
        self,
        parts: Collection[Part],
        query: str,
        passages: Sequence[str],
        first_stage: Scores | None,
        reached: NDArray[np.intp],
    ) -> dict[Part, Scores]:
        """Scores (reached,) of every part but the cross-encoder's."""
        found: dict[Part, Scores] = {}
        fusion = self.bundle.fusion
        if Part.BI_ENCODER in parts and self._cosines is not None:
            found[Part.BI_ENCODER] = self._cosines.score_pairs([(query, passages[i]) for i in reached.tolist()])
        if Part.KNOWN_QUESTION in parts and self._known is not None:
            found[Part.KNOWN_QUESTION] = self._known.score_pairs([(query, passages[i]) for i in reached.tolist()])
        if Part.LEXICAL in parts and fusion is not None and passages:
            index = LexicalIndex(passages, language_of(fusion.language), self._cut)
            found[Part.LEXICAL] = index.scores(query).astype(np.float64)[reached]
        if Part.FIRST_STAGE in parts and first_stage is not None:
            found[Part.FIRST_STAGE] = standardised(first_stage[reached])
        return found

    def _ranked(
        self, reached: NDArray[np.intp], parts: dict[Part, Scores], logits: Scores | None
    ) -> list[RankedPassage]:
        """Ranking of the passages that were reached; all arrays (reached,) in the same order, of logits the first."""
        if logits is not None:
            parts[Part.CROSS_ENCODER] = with_unread(logits, len(reached))
        fusion = self.bundle.fusion
        if fusion is not None and parts and fusion.weights.keys() & parts.keys():
            scores = fuse(parts, fusion.weights)
        else:
            scores = parts.get(Part.CROSS_ENCODER, np.zeros(len(reached)))
        calibration, calibrated = self._calibration(scores, parts)
        chances = None if calibration is None else calibration.probability(calibrated)
        threshold = 1.0 if calibration is None else calibration.threshold
        return [
            RankedPassage(
                int(reached[i]),
                rank,
                float(logits[i]) if logits is not None and i < len(logits) else None,
                None if chances is None else float(chances[i]),
                chances is not None and bool(chances[i] >= threshold),
                float(scores[i]),
            )
            # By input order among equals, whatever the order in which they were reached.
            for rank, i in enumerate(np.lexsort((reached, -scores)), start=1)
        ]

    def _calibration(self, scores: Scores, parts: dict[Part, Scores]) -> tuple[Calibration | None, Scores]:
        """The scale that fits what there is: of the whole fused score, or of the logit alone; and what it scales."""
        fusion = self.bundle.fusion
        if fusion is not None and fusion.weights.keys() <= parts.keys():
            return fusion.calibration, scores
        logits = parts.get(Part.CROSS_ENCODER)
        return (None, scores) if logits is None else (self.bundle.calibration, logits)

    def calibrates_score(self, with_first_stage: bool) -> bool:
        """Whether a ranking's probabilities are of the score that it is by.

        With parts missing they are the logit's alone, which can order otherwise.
        """
        parts, fusion = set(self.parts(with_first_stage)), self.bundle.fusion
        return parts == {Part.CROSS_ENCODER} or (fusion is not None and fusion.weights.keys() <= parts)

    def probabilities(self, pairs: Sequence[tuple[str, str]], progress: Progress = silent) -> Scores:
        """Calibrated probability of each (query, passage) pair by the cross-encoder alone, in input order."""
        with self._turn:
            return self.bundle.calibration.probability(self.scorer.score_pairs(pairs, progress))

    def with_cache(self, path: str | Path) -> Reranker:
        """The same model over a score cache: pairs it has scored before are read from a file.

        Args:
            path: The cache's file, made when needed; several models and processes may share it.

        Raises:
            ConfigError: The file cannot be used as a cache.
        """
        cached = copy.copy(self)
        cached._cache = cache = ScoreCache(path)
        identity = model_hash(self.bundle.path)
        if "scorer" in self.__dict__:  # opened already
            cached.scorer = CachedScorer(self.scorer, cache, identity)
        if self._cosines is not None:
            cached._cosines = self._cosines.with_cache(PairCache(cache, identity, Part.BI_ENCODER.value))
            if self._known is not None:
                known = PairCache(cache, identity, Part.KNOWN_QUESTION.value)
                cached._known = self._known.with_cache(known, cached._cosines)
        return cached

    @cached_property
    def embedder_identity(self) -> str | None:
        """`SentenceTransformerEmbedder.identity` of the bi-encoder; None where it has no part in the score."""
        folder = self.bundle.bi_encoder
        if self._embedder is None or folder is None:
            return None
        return f"{resolve(str(folder)).index_revision} {self._embedder.limits}"

    @property
    def searches_tuned(self) -> bool:
        """Whether it was judged over candidates that its own bi-encoder finds."""
        fusion = self.bundle.fusion
        return fusion is not None and fusion.first_stage.startswith("tuned ")

    @property
    def embedder(self) -> SentenceTransformerEmbedder | None:
        """The bi-encoder; None where it has no part in score or search, or is not there."""
        return self._embedder

    def remember(self, passages: Sequence[str], vectors: NDArray[np.float32]) -> None:
        """Take vectors (passages, dimensions) of the bi-encoder from an index, in place of embedding the passages."""
        if self._cosines is not None:
            self._cosines.remember(passages, vectors)

    def _wants(self, part: Part) -> bool:
        fusion = self.bundle.fusion
        return part is Part.CROSS_ENCODER if fusion is None else part in fusion.parts

    def _open_bi_encoder(self) -> CosineScorer | None:
        """The bi-encoder, if it has a part in the score or in the search and can be run; otherwise why not is noted."""
        if not (self._wants(Part.BI_ENCODER) or self._wants(Part.KNOWN_QUESTION) or self.searches_tuned):
            return None
        if self.bundle.bi_encoder is None:
            self.missing[Part.BI_ENCODER] = f"{self.bundle.path} holds no bi-encoder"
            return None
        try:
            require("sentence_transformers", extra="train", what="the bi-encoder's part of the score")
        except MissingExtraError as error:
            self.missing[Part.BI_ENCODER] = str(error)
            return None
        folder = self.bundle.bi_encoder
        checkpoint = Checkpoint(str(folder), folder, "", CheckpointKind.ENCODER)
        # float32, so that scores are the same on every machine.
        self._embedder = SentenceTransformerEmbedder(checkpoint, precision="fp32")
        return CosineScorer(self._embedder)

    def _open_known_questions(self) -> KnownQuestionScorer | None:
        """The known questions, if they have a part in the score and can be used; otherwise why not is noted."""
        if not self._wants(Part.KNOWN_QUESTION):
            return None
        path = self.bundle.known_questions
        if path is None or self._cosines is None:
            why = f"{self.bundle.path} holds no known questions"
            self.missing[Part.KNOWN_QUESTION] = why if path is None else self.missing[Part.BI_ENCODER]
            return None
        return KnownQuestionScorer(self._cosines.embed_queries, load_known_questions(path))
