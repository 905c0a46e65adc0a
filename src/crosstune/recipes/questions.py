"""Tuning how questions are embedded, for passages whose vectors stay as they are: the index is not touched."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from crosstune.bi_encoder import TextEncoder, load_bi_encoder, save_two_sides, side_of, without_dropout
from crosstune.checkpoints import Checkpoint
from crosstune.progress import Progress
from crosstune.recipes.averaging import DevQuality, Vectors, best_share
from crosstune.recipes.contrasts import Contrasts
from crosstune.recipes.prepare import Prepared, Say
from crosstune.recipes.run_folder import RunFolder
from crosstune.scoring import best_device
from crosstune.training import (
    FirstStagePlan,
    Throughput,
    TrainingResult,
    TrainingSettings,
    train_bi_encoder,
)

BATCH = 32
MAX_EPOCHS = 4.0  # more would not help
# Passages that every question is contrasted with; of a larger corpus some are drawn beside the answers.
_MOST_PASSAGES = 50_000
_MOST_DEV = 400


@dataclass(frozen=True, slots=True)
class TunedQuestions:
    """What became of the questions' side.

    Attributes:
        path: The model of two sides, in sentence-transformers' format.
        passages: The bi-encoder that its passages are embedded by.
        vectors: (passages, dimensions) by it.
        quality: nDCG@10 of dense search among the candidates of dev questions.
        settings: Plan, training settings and the share of the tuned weights that is kept, for the artefacts.
        sentence: What was done, for the reader.
    """

    path: Path
    passages: Checkpoint
    vectors: Vectors
    quality: float
    settings: dict[str, Any]
    sentence: str


class QuestionTuner:
    """Tunes an encoder of questions against all passages at once.

    Args:
        prepared: The data.
        speed: The fastest way to train.
        seed: Of the order of questions.
        folder: For checkpoints, and to remember what dev decided.
        progress, say: Told of the work.
    """

    def __init__(
        self, prepared: Prepared, speed: Throughput, seed: int, folder: RunFolder, progress: Progress, say: Say
    ) -> None:
        self._prepared, self._speed, self._seed, self._folder = prepared, speed, seed, folder
        self._progress, self._say = progress, say
        passage_ids = list(prepared.collection.passages)
        drawn = np.random.default_rng(seed).permutation(len(passage_ids))[:_MOST_PASSAGES]
        self._contrasts = Contrasts(prepared, [passage_ids[i] for i in sorted(drawn.tolist())])
        place = {passage_id: i for i, passage_id in enumerate(passage_ids)}
        self._places = [place[passage_id] for passage_id in self._contrasts.passage_ids]

    def tune(
        self, passages: Checkpoint, vectors: Vectors, plan: FirstStagePlan, learning_rate: float, name: str
    ) -> TunedQuestions:
        """Tune it, and keep the share of the tuning that dev likes best.

        Args:
            passages: The bi-encoder that passages are and stay embedded by, and that questions start from.
            vectors: (passages, dimensions) of the collection's passages by it.
            plan: Of questions: an example is one with all its answers.
            learning_rate: At its peak.
            name: Of this tuning in the folder.
        """
        prepared, folder = self._prepared, self._folder
        device = best_device().type
        start = load_bi_encoder(passages, device)
        model = side_of(load_bi_encoder(passages, device), "query")
        training = contrastive_settings(plan, self._speed, learning_rate, self._seed)
        ended, n_passages = self._train(model, vectors, plan, training, name)
        path = folder.training / f"{name}-two-sides"
        decided = folder.recall(name)
        if decided is None:
            n_dev = min(_MOST_DEV, len(prepared.splits.dev))
            asked = DevQuality(prepared, folder.recall("embedder_precision") or "fp32", n_dev)
            untuned = side_of(start, "query")
            decided = best_share(model, untuned, lambda tuned: asked(tuned, vectors), asked(untuned, vectors))
            save_two_sides(model, side_of(start, "document"), path, passages.index_revision)
            folder.remember(**{name: decided})
        share, quality = decided
        sentence = (
            f"How questions are embedded was tuned against {n_passages:,} passages as they are: {ended.n_steps} steps "
            f"of {BATCH} questions, {ended.stopped}. On dev {share:.0%} of the tuned weights ranked best."
        )
        resolved = {"plan": asdict(plan), "training": asdict(training), "tuned_share": share}
        return TunedQuestions(path, passages, vectors, quality, resolved, sentence)

    def _train(
        self, model: Any, vectors: Vectors, plan: FirstStagePlan, training: TrainingSettings, name: str
    ) -> tuple[TrainingResult, int]:
        """Train the model in place; how that went, and against how many passages."""
        without_dropout(model)
        contrasts, fixed = self._contrasts, vectors[self._places]
        self._say(f"Tuning how questions are embedded, against {len(fixed):,} passages as they are: {plan.sentence()}.")
        result = train_bi_encoder(
            model, TextEncoder(model, plan.max_length), contrasts.queries, fixed, contrasts.all, contrasts.protected,
            training, self._folder.training / name, self._progress, rival_questions=contrasts.rival_questions,
        )  # fmt: skip
        if result.resumed_from:
            self._say(f"Training of the questions' side continued from step {result.resumed_from}.")
        return result, len(fixed)


def contrastive_settings(plan: FirstStagePlan, speed: Throughput, learning_rate: float, seed: int) -> TrainingSettings:
    """How a bi-encoder, or its questions' side, is trained: to the end of the plan, the last weights counting."""
    return TrainingSettings(
        n_steps=plan.n_steps,
        loss="contrastive",
        learning_rate=learning_rate,
        batch_groups=BATCH,
        precision=speed.precision,
        attention=speed.attention,
        n_evaluations=0,
        keep="last",
        deadline_s=max(30.0, 1.5 * plan.training_s),
        seed=seed,
    )
