"""Tuning the first stage: the bi-encoder on the train questions, and what it ranks afterwards."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from crosstune.bi_encoder import (
    CachedEmbedder,
    SentenceTransformerEmbedder,
    TextEncoder,
    load_bi_encoder,
    side_of,
    without_dropout,
)
from crosstune.checkpoints import Checkpoint, resolve
from crosstune.evaluation import HEADLINE, headline_mean
from crosstune.known_questions import KnownQuestions
from crosstune.progress import Progress
from crosstune.recipes.averaging import Vectors, average, seconds_afterwards
from crosstune.recipes.contrasts import Contrasts
from crosstune.recipes.known import known_questions, known_scores
from crosstune.recipes.prepare import Prepared, Say, Similarity, make_first_stages, queries_of, rank_with
from crosstune.recipes.questions import (
    BATCH,
    MAX_EPOCHS,
    QuestionTuner,
    TunedQuestions,
    contrastive_settings,
)
from crosstune.recipes.run_folder import RunFolder
from crosstune.recipes.settings import TuneSettings
from crosstune.scoring import best_device
from crosstune.training import (
    FirstStagePlan,
    Throughput,
    measure_training,
    plan_first_stage,
    train_bi_encoder,
)
from crosstune.types import Run

_TEXTS_TO_TIME = 32
_NO_LIMIT_S = 1e12
# Of the seconds that training both sides may take, those for questions alone: they learn in a fraction of the time.
_QUESTIONS_SHARE = 0.15
_RATE_AFTER = 0.4
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
        known: The train questions as it embeds them; None where there are too few to tell a new question from them.
        known_scores: (query_id, passage_ids) -> what `known` says of them, for dev and test questions.
        keeps_index: Whether passages are embedded as before, so that an index made with the base may stay.
        settings: Plan and training settings, for the artefacts.
        notes: What the reader must know.
    """

    model: Checkpoint
    base: Checkpoint
    runs: Mapping[str, Run]
    chosen: str
    mining_run: Run
    cosines: Similarity
    known: KnownQuestions | None
    known_scores: Similarity | None
    keeps_index: bool
    settings: Mapping[str, Any]
    notes: tuple[str, ...]

    @property
    def candidates(self) -> Run:
        """Candidates of dev and test questions from the chosen one."""
        return self.runs[self.chosen]


class FirstStageTuner:
    """The bi-encoder of the dense first stage, and what tuning it costs on this machine.

    Two things can be tuned: how questions are embedded, for passages that stay as they are, which takes seconds; and,
    where there is time, the encoder as a whole, after which passages are embedded anew and questions tuned once more.
    Dev decides which of the two models is better.

    Args:
        prepared: Splits and untuned first stages.
        settings: Of the run.
        folder: For checkpoints and embeddings; remembers measured speed and plan for a continuation.

    Attributes:
        after_s: Expected seconds of embedding once both sides are tuned.
        whole: Whether both sides can be tuned: one encoder embeds both.
    """

    def __init__(self, prepared: Prepared, settings: TuneSettings, folder: RunFolder) -> None:
        self._prepared, self._settings, self._folder = prepared, settings, folder
        with prepared.stopwatch.stage("tune first stage"):
            loaded = load_bi_encoder(prepared.embedder, best_device().type)
            self._model = side_of(loaded, "query")
            self.whole = self._model is loaded and not settings.keep_index
            without_dropout(self._model)
            self._examples = Contrasts(prepared)
            self._texts = self._examples.texts(prepared.collection)
            encoder = TextEncoder(self._model)
            self._longest = encoder.max_length
            queries, passages = encoder.queries(self._examples.queries), encoder.passages(self._texts)
            self._question_lengths = np.array([len(ids) for ids in queries])
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
        """Expected seconds of so many epochs of both sides."""
        return self._plan(_NO_LIMIT_S, n_epochs).training_s

    def questions_s(self, budget_s: float) -> float:
        """Expected seconds of tuning nothing but questions, of so many for training."""
        return self._plan_questions(budget_s).training_s

    def _plan(self, budget_s: float, max_epochs: float = MAX_EPOCHS) -> FirstStagePlan:
        return plan_first_stage(
            *self._lengths, self._speed, budget_s,
            batch=BATCH, longest=self._longest, max_epochs=max_epochs,
        )  # fmt: skip

    def _plan_questions(self, budget_s: float) -> FirstStagePlan:
        """Of questions alone. An example is a question with all its answers, and passages cost nothing."""
        lengths = self._question_lengths
        return plan_first_stage(
            lengths, np.zeros_like(lengths), self._speed, budget_s,
            batch=BATCH, longest=self._longest, max_epochs=MAX_EPOCHS,
        )  # fmt: skip

    def tune(self, budget_s: float, whole: bool, progress: Progress, say: Say) -> TunedFirstStage:
        """Tune it on the train questions, and rank with it.

        Args:
            budget_s: Seconds for training.
            whole: Whether both sides are tuned, too.
            progress, say: Told of the work.
        """
        prepared, folder = self._prepared, self._folder
        with prepared.stopwatch.stage("tune first stage"):
            plans = folder.recall("first_stage")
            if plans is None:
                first = self._plan_questions(_QUESTIONS_SHARE * budget_s if whole else budget_s)
                both_s = budget_s - 2 * first.training_s  # questions are tuned twice
                plans = {"both": asdict(self._plan(both_s)) if whole else None, "questions": asdict(first)}
                folder.remember(first_stage=plans)
            resolved: dict[str, Any] = {}
            notes: tuple[str, ...] = (_RIVALS_NOTE,) if self._examples.rival_questions else ()
            questions = FirstStagePlan(**plans["questions"])
            rate = _learning_rate(self._model)
            tuner = QuestionTuner(prepared, self._speed, self._settings.seed, folder, progress, say)
            tuned = [tuner.tune(prepared.embedder, prepared.vectors(), questions, rate, "questions")]
            if plans["both"] is not None:
                both, resolved["both"], note = self._tune_both(FirstStagePlan(**plans["both"]), progress, say)
                notes = (note, *notes)
                if both is not None:
                    vectors = self._embedded(both, progress)
                    tuned.append(tuner.tune(both, vectors, questions, _RATE_AFTER * rate, "questions-after"))
            best = max(tuned, key=lambda found: found.quality)  # of equals the one that keeps the index
            resolved["questions"] = best.settings
            notes = (*notes, best.sentence)
            if len(tuned) > 1:
                notes = (*notes, _preferred(*(found.quality for found in tuned)))
        return self._ranked(best, resolved, notes, progress, say)

    def _tune_both(
        self, plan: FirstStagePlan, progress: Progress, say: Say
    ) -> tuple[Checkpoint | None, dict[str, Any], str]:
        """The encoder of both sides, None where dev likes the untuned one best; settings; and a note."""
        prepared, folder, examples = self._prepared, self._folder, self._examples
        say(f"Tuning the first stage: {plan.sentence()}; {self._speed.precision}.")
        training = contrastive_settings(plan, self._speed, _learning_rate(self._model), self._settings.seed)
        result = train_bi_encoder(
            self._model, TextEncoder(self._model, plan.max_length), examples.queries, self._texts,
            examples.all, examples.protected, training, folder.training / "first-stage", progress,
            rival_questions=examples.rival_questions,
        )  # fmt: skip
        if result.resumed_from:
            say(f"Training of the first stage continued from step {result.resumed_from}.")
        share, path = average(prepared, result.model_path, self._settings.budget_s, folder)
        note = (
            f"The first stage's bi-encoder ({prepared.embedder.name}) was tuned on {plan.n_examples:,} question-answer "
            f"pairs: {result.n_steps} steps of {BATCH} pairs, {result.stopped}. On dev {share:.0%} of the tuned and "
            f"{1 - share:.0%} of the untuned weights ranked best."
        )
        resolved = {"plan": asdict(plan), "training": asdict(training), "tuned_share": share}
        return None if path is None else resolve(str(path)), resolved, note

    def _embedded(self, model: Checkpoint, progress: Progress) -> Vectors:
        """(passages, dimensions) of all passages by a tuned model."""
        embedder = self._embedder(model)
        return embedder.embed_passages([p.full_text for p in self._prepared.collection.passages.values()], progress)

    def _embedder(self, model: Checkpoint) -> CachedEmbedder:
        precision = self._folder.recall("embedder_precision")
        return CachedEmbedder(SentenceTransformerEmbedder(model, precision=precision), self._folder.cache)

    def _ranked(
        self,
        tuned: TunedQuestions,
        resolved: Mapping[str, Any],
        notes: tuple[str, ...],
        progress: Progress,
        say: Say,
    ) -> TunedFirstStage:
        """What the tuned model ranks."""
        prepared = self._prepared
        collection, splits = prepared.collection, prepared.splits
        with prepared.stopwatch.stage("rank with the tuned first stage"):
            model = resolve(str(tuned.path))
            embedder = self._embedder(model)
            _, dense, hybrid = make_first_stages(collection, embedder, progress, "tuned ", tuned.vectors)
            dev = queries_of(collection, splits.dev)
            depth = self._settings.depth
            runs, chosen, mining_run = rank_with((dense, hybrid), dev, collection, splits, depth, progress)
            judged = queries_of(collection, splits.dev + splits.test)
            cosines = dense.similarity(judged, progress)
            known = known_questions(prepared, embedder, progress)
            scores = None if known is None else known_scores(known, collection, judged, embedder, progress)
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
            known=known,
            known_scores=scores,
            keeps_index=tuned.passages is prepared.embedder,
            settings=resolved,
            notes=(*notes, sentence),
        )


def _preferred(as_they_are: float, anew: float) -> str:
    """Which of the two tuned models dev prefers."""
    better = "passages embedded anew are better" if anew > as_they_are else "so the index stays"
    return (
        f"Dev candidates by cosine: {HEADLINE} {as_they_are:.3f} with passages as they are, {anew:.3f} with passages "
        f"embedded anew by the model that both sides were tuned in: {better}."
    )


def _learning_rate(model: Any) -> float:
    """Peak learning rate by size: small models take and need larger steps."""
    n_million = sum(parameter.numel() for parameter in model.parameters()) / 1e6
    return 5e-5 if n_million < 50 else 2e-5


def _dev_quality(run: Run, prepared: Prepared) -> float:
    return headline_mean(run, prepared.collection.qrels, prepared.splits.dev)
