"""Tuning the first stage: the bi-encoder on the train questions, and what it ranks afterwards."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from crosstune.bi_encoder import (
    CachedEmbedder,
    SentenceTransformerEmbedder,
    TextEncoder,
    load_bi_encoder,
    without_dropout,
)
from crosstune.checkpoints import Checkpoint, resolve
from crosstune.evaluation import HEADLINE, headline_mean
from crosstune.progress import Progress
from crosstune.recipes.averaging import average, seconds_afterwards
from crosstune.recipes.contrasts import Contrasts
from crosstune.recipes.prepare import Prepared, Say, Similarity, make_first_stages, queries_of, rank_with
from crosstune.recipes.run_folder import RunFolder
from crosstune.recipes.settings import TuneSettings
from crosstune.scoring import best_device
from crosstune.training import (
    FirstStagePlan,
    Throughput,
    TrainingSettings,
    measure_training,
    plan_first_stage,
    train_bi_encoder,
)
from crosstune.types import Run

_BATCH = 32
_TEXTS_TO_TIME = 32
_MAX_EPOCHS = 4.0  # more would not help
_NO_LIMIT_S = 1e12
_RIVALS_NOTE = (
    "Most answers to train questions answer dev or test questions, too, so that they may not be anybody's negative: "
    "the first stage learnt to tell an answer from the other questions instead."
)


@dataclass(frozen=True, slots=True)
class TunedFirstStage:
    """The tuned bi-encoder and what it ranks.

    Attributes:
        model: It, in sentence-transformers' format.
        base: What it was tuned from.
        runs: "tuned dense" and "tuned hybrid" -> ranking of dev and test questions, of the judged depth.
        chosen: Which of them ranks dev best.
        mining_run: Its deeper ranking of the train questions.
        cosines: (query_id, passage_ids) -> cosines, for dev and test questions.
        settings: Plan and training settings, for the artefacts.
        notes: What the reader must know.
    """

    model: Checkpoint
    base: Checkpoint
    runs: Mapping[str, Run]
    chosen: str
    mining_run: Run
    cosines: Similarity
    settings: Mapping[str, Any]
    notes: tuple[str, ...]

    @property
    def candidates(self) -> Run:
        """Candidates of dev and test questions from the chosen one."""
        return self.runs[self.chosen]


class FirstStageTuner:
    """The bi-encoder of the dense first stage, and what tuning it costs on this machine.

    Args:
        prepared: Splits and untuned first stages.
        settings: Of the run.
        folder: For checkpoints and embeddings; remembers measured speed and plan for a continuation.

    Attributes:
        after_s: Expected seconds of embedding once it is tuned.
    """

    def __init__(self, prepared: Prepared, settings: TuneSettings, folder: RunFolder) -> None:
        self._prepared, self._settings, self._folder = prepared, settings, folder
        with prepared.stopwatch.stage("tune first stage"):
            self._model = load_bi_encoder(prepared.embedder, best_device().type)
            without_dropout(self._model)
            self._examples = Contrasts(prepared)
            encoder = TextEncoder(self._model)
            self._longest = encoder.max_length
            queries, passages = encoder.queries(self._examples.queries), encoder.passages(self._examples.passages)
            self._lengths = (
                np.array([len(queries[example.query]) for example in self._examples.all]),
                np.array([len(passages[example.positive]) for example in self._examples.all]),
            )
            if folder.recall("first_stage_speed") is None:
                n = min(_TEXTS_TO_TIME, len(passages))
                chosen = np.random.default_rng(settings.seed).choice(len(passages), size=n, replace=False)
                fastest = measure_training(self._model, encoder, [passages[i] for i in chosen])[0]
                folder.remember(first_stage_speed=asdict(fastest))
            self._speed = Throughput(**folder.recall("first_stage_speed"))
        self.after_s = seconds_afterwards(prepared, settings.budget_s, folder)

    def seconds(self, n_epochs: float) -> float:
        """Expected seconds of so many epochs."""
        return self._plan(_NO_LIMIT_S, n_epochs).training_s

    def _plan(self, budget_s: float, max_epochs: float = _MAX_EPOCHS) -> FirstStagePlan:
        return plan_first_stage(
            *self._lengths, self._speed.tokens_per_s, budget_s,
            batch=_BATCH, longest=self._longest, max_epochs=max_epochs,
        )  # fmt: skip

    def tune(self, budget_s: float, progress: Progress, say: Say) -> TunedFirstStage:
        """Tune it on the train questions, and rank with it.

        Args:
            budget_s: Seconds for training.
            progress, say: Told of the work.
        """
        prepared, folder, examples = self._prepared, self._folder, self._examples
        with prepared.stopwatch.stage("tune first stage"):
            remembered = folder.recall("first_stage")
            plan = self._plan(budget_s) if remembered is None else FirstStagePlan(**remembered)
            folder.remember(first_stage=asdict(plan))
            say(f"Tuning the first stage: {plan.sentence()}; {self._speed.precision}.")
            training = self._training_settings(plan)
            result = train_bi_encoder(
                self._model, TextEncoder(self._model, plan.max_length), examples.queries, examples.passages,
                examples.all, examples.protected, training, folder.training / "first-stage", progress,
                rival_questions=examples.rival_questions,
            )  # fmt: skip
            if result.resumed_from:
                say(f"Training of the first stage continued from step {result.resumed_from}.")
            share, path = average(prepared, result.model_path, self._settings.budget_s, folder)
        resolved = {"plan": asdict(plan), "training": asdict(training), "tuned_share": share}
        notes = (
            f"The first stage's bi-encoder ({prepared.embedder.name}) was tuned on {plan.n_examples:,} question-answer "
            f"pairs: {result.n_steps} steps of {_BATCH} pairs, {result.stopped}. On dev {share:.0%} of the tuned and "
            f"{1 - share:.0%} of the untuned weights ranked best.",
            *((_RIVALS_NOTE,) if examples.rival_questions else ()),
        )
        return _ranked(prepared, path, resolved, notes, self._settings, folder, progress, say)

    def _training_settings(self, plan: FirstStagePlan) -> TrainingSettings:
        return TrainingSettings(
            n_steps=plan.n_steps,
            loss="contrastive",
            learning_rate=_learning_rate(self._model),
            batch_groups=_BATCH,
            precision=self._speed.precision,
            attention=self._speed.attention,
            n_evaluations=0,
            keep="last",
            deadline_s=max(30.0, 1.5 * plan.training_s),
            seed=self._settings.seed,
        )


def _ranked(
    prepared: Prepared,
    path: Path,
    resolved: Mapping[str, Any],
    notes: tuple[str, ...],
    settings: TuneSettings,
    folder: RunFolder,
    progress: Progress,
    say: Say,
) -> TunedFirstStage:
    """What the tuned model ranks."""
    collection, splits = prepared.collection, prepared.splits
    with prepared.stopwatch.stage("rank with the tuned first stage"):
        model = resolve(str(path))
        precision = folder.recall("embedder_precision")
        embedder = CachedEmbedder(SentenceTransformerEmbedder(model, precision=precision), folder.cache)
        _, dense, hybrid = make_first_stages(collection, embedder, progress, prefix="tuned ")
        dev = queries_of(collection, splits.dev)
        runs, chosen, mining_run = rank_with((dense, hybrid), dev, collection, splits, settings.depth, progress)
        cosines = dense.similarity(queries_of(collection, splits.dev + splits.test), progress)
    before, after = (_dev_quality(run, prepared) for run in (prepared.first_stages["dense"], runs[dense.name]))
    sentence = f"Dense search on the dev questions: {HEADLINE} {before:.3f} untuned, {after:.3f} tuned."
    say(sentence)
    return TunedFirstStage(
        model=model,
        base=prepared.embedder,
        runs=runs,
        chosen=chosen,
        mining_run=mining_run,
        cosines=cosines,
        settings=resolved,
        notes=(*notes, sentence),
    )


def _learning_rate(model: Any) -> float:
    """Peak learning rate by size: small models take and need larger steps."""
    n_million = sum(parameter.numel() for parameter in model.parameters()) / 1e6
    return 5e-5 if n_million < 50 else 2e-5


def _dev_quality(run: Run, prepared: Prepared) -> float:
    return headline_mean(run, prepared.collection.qrels, prepared.splits.dev)
