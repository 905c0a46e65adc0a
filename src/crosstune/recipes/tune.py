"""The main job: a question/answer file to a tuned first stage, a tuned reranker and an honest verdict."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from crosstune.checkpoints import Checkpoint, CheckpointKind
from crosstune.evaluation import HEADLINE, headline_mean
from crosstune.mining import MinedGroups, MiningSettings, mine, write_account
from crosstune.pair_encoding import PairEncoder
from crosstune.progress import Progress, silent
from crosstune.recipes.choose import Tuned, TunedReranker
from crosstune.recipes.finished import FinishedRun
from crosstune.recipes.measure import BATCH_GROUPS, CLOSING_S, Measured, measure
from crosstune.recipes.prepare import Prepared, Say, top_of, unheard
from crosstune.recipes.reading import score_run
from crosstune.recipes.retriever import FirstStageTuner, TunedFirstStage
from crosstune.recipes.run import load_base, run_recipe
from crosstune.recipes.run_folder import RunFolder
from crosstune.recipes.settings import TuneSettings
from crosstune.scoring import Precision, TorchScorer, rerank
from crosstune.training import (
    EncodedGroup,
    Plan,
    ReadingPlan,
    TrainingResult,
    TrainingSettings,
    load_trained,
    make_loss,
    train,
)
from crosstune.types import Collection, Run, TrainingGroup

# Of the time that is left: a first stage learns more in a minute than a reranker, and is done sooner. Beside a reranker
# it has its share, and more where that is too little for a few epochs.
_FIRST_STAGE_SHARE, _WHOLE_SHARE = 0.4, 0.85
_ENOUGH_EPOCHS = 2.0
# A reranker that there is no time to tune may still read as it came, for no more than this beside both sides.
_READING_SHARE = 0.3
# Both sides of the first stage are tuned where they see half of the train pairs and can be embedded anew for judging.
_LEAST_EPOCHS = 0.5
_NO_NEGATIVES = "all passages answer dev or test questions, so that none may be a negative."


def tune(
    path: str | Path,
    out: str | Path,
    settings: TuneSettings | None = None,
    *,
    overwrite: bool = False,
    progress: Progress = silent,
    say: Say = unheard,
) -> FinishedRun:
    """Tune first stage and reranker on a file of questions and answers, judge them on unseen questions, save them.

    Killed at any moment, the same call continues from the last checkpoint; of a complete run it reads the result.

    Args:
        path: CSV, TSV, JSONL, Parquet, or a BEIR folder.
        out: Folder for model, report, runs and manifest.
        settings: See `TuneSettings`.
        overwrite: Replace a run that the folder holds.
        progress, say: Told of the work.

    Raises:
        DataError, LeakageError: The data cannot be used.
        CheckpointError: The base cannot be found or used.
        ConfigError: A setting is wrong, or `out` holds another run.
        MissingExtraError: The extra `train` is not installed.
    """
    settings = settings or TuneSettings()

    def train_stages(prepared: Prepared, base: Checkpoint, folder: RunFolder) -> Tuned:
        return _Stages(prepared, base, settings, folder, progress, say).train()

    resolved = settings.to_json() | {"recipe": "default"}
    return run_recipe(train_stages, path, out, settings, resolved, overwrite=overwrite, progress=progress, say=say)


@dataclass(frozen=True, slots=True)
class _Reader:
    """The cross-encoder before it is tuned, and what the machine can do with it."""

    model: Any
    tokenizer: Any
    measured: Measured


class _Stages:
    """Which stages are tuned, one after the other, and what each learns from the one before."""

    def __init__(
        self,
        prepared: Prepared,
        base: Checkpoint,
        settings: TuneSettings,
        folder: RunFolder,
        progress: Progress,
        say: Say,
    ) -> None:
        self._prepared, self._base, self._settings = prepared, base, settings
        self._folder, self._progress, self._say = folder, progress, say

    def train(self) -> Tuned:
        """The first stage, then the reranker over what the tuned first stage finds."""
        settings, notes = self._settings, list[str]()
        tuner = self._tuner(notes)
        reader = None if settings.stages == "retriever" else self._reader(n_runs=1 if tuner is None else 2)
        first_stage = None
        if tuner is not None:
            if settings.stages == "auto" and reader is not None:
                whole, budget_s = self._division(tuner, reader.measured, notes)
            else:
                whole = tuner.whole
                budget_s = self._first_stage_s(self._left_s(), tuner, whole, alone=reader is None)
            first_stage = tuner.tune(budget_s, whole, self._progress, self._say)
        reranker, chosen = (None, {}) if reader is None else self._reranker(reader, first_stage, notes)
        resolved = settings.to_json() | {"recipe": "default"} | chosen
        if first_stage is not None:
            resolved |= {"first_stage": first_stage.settings}
            notes = [*first_stage.notes, *notes]
        reranks = self._base.kind is CheckpointKind.RERANKER and settings.stages != "retriever"
        return Tuned(reranker, first_stage, resolved, tuple(notes), spare=self._base if reranks else None)

    def _left_s(self) -> float:
        """Seconds of the budget that are left for work."""
        return max(0.0, self._settings.budget_s - self._prepared.stopwatch.elapsed_s - CLOSING_S)

    def _tuner(self, notes: list[str]) -> FirstStageTuner | None:
        """The first stage's bi-encoder; None when it will not be tuned."""
        stages = self._settings.stages
        if stages == "reranker":
            return None
        if stages == "auto" and self._prepared.similarity is None:
            self._explain("The embedder cannot read this language, so the first stage was not tuned.", notes)
            return None
        return FirstStageTuner(self._prepared, self._settings, self._folder)

    def _reader(self, n_runs: int) -> _Reader:
        """The cross-encoder, and how fast it is over the candidates of so many first stages."""
        model, tokenizer = load_base(self._base, self._settings.seed, self._say)
        with self._prepared.stopwatch.stage("measure speed"):
            measured = measure(model, tokenizer, self._prepared, self._base, self._settings, self._folder, n_runs)
        return _Reader(model, tokenizer, measured)

    @staticmethod
    def _first_stage_s(left_s: float, tuner: FirstStageTuner, whole: bool, alone: bool) -> float:
        """Seconds that training the first stage may take, of those that its embedding leaves."""
        if not whole:
            return (_WHOLE_SHARE if alone else _FIRST_STAGE_SHARE) * left_s
        rest_s = max(0.0, left_s - tuner.after_s)
        share = _WHOLE_SHARE if alone else max(_FIRST_STAGE_SHARE, tuner.seconds(_ENOUGH_EPOCHS) / max(1.0, rest_s))
        return min(share, _WHOLE_SHARE) * rest_s

    def _division(self, tuner: FirstStageTuner, measured: Measured, notes: list[str]) -> tuple[bool, float]:
        """Whether there is time for both sides of the first stage, and how long training it may take.

        Asked before anything is tuned, so that the first stage has the time of a cross-encoder that there is no time to
        tune, less what that one needs to read as it came. How questions are embedded is tuned in any case.
        """
        decided = self._folder.recall("division")  # a continued run decides nothing anew
        if decided is None:
            left_s = self._left_s()
            least_s = tuner.after_s + tuner.seconds(_LEAST_EPOCHS)
            whole = tuner.whole and least_s <= _WHOLE_SHARE * left_s
            first_s = self._first_stage_s(left_s, tuner, whole, alone=False)
            taken_s = first_s + tuner.after_s if whole else tuner.questions_s(first_s)
            others_s = max(0.0, left_s - taken_s)
            if not measured.plan(others_s).worth_it:
                # Questions alone need little, and what they leave is for reading.
                reading = measured.reading(_READING_SHARE * left_s if whole else others_s)
                rest_s = left_s - (0.0 if reading is None else reading.judging_s)
                whole = whole and least_s <= _WHOLE_SHARE * rest_s
                alone = whole or reading is None
                first_s = self._first_stage_s(rest_s if alone else left_s, tuner, whole, alone)
            decided = {"whole": whole, "first_s": first_s, "left_s": left_s, "least_s": least_s}
            self._folder.remember(division=decided)
        if tuner.whole and not decided["whole"]:
            self._explain(
                "Of the first stage only how questions are embedded is tuned: training both sides on half of the "
                f"pairs and embedding {len(self._prepared.collection.passages):,} passages anew would take about "
                f"{decided['least_s']:.0f} of the {decided['left_s']:.0f} seconds left. Give more time (--budget), or "
                "--stages both to do it anyway.",
                notes,
            )
        return decided["whole"], decided["first_s"]

    def _reranker(
        self, reader: _Reader, first_stage: TunedFirstStage | None, notes: list[str]
    ) -> tuple[TunedReranker | None, dict[str, Any]]:
        """The tuned reranker, and what was chosen for it."""
        prepared, settings, folder, measured = self._prepared, self._settings, self._folder, reader.measured
        beside = settings.stages == "auto" and first_stage is not None
        remembered = folder.recall("plan")
        chosen = measured.plan(self._left_s()) if remembered is None else Plan(**remembered)
        folder.remember(plan=asdict(chosen))
        if beside and not chosen.worth_it:
            return self._as_it_came(reader, _no_time(chosen.judging_s), notes)
        with prepared.stopwatch.stage("mine negatives"):
            run = prepared.mining_run if first_stage is None else first_stage.mining_run
            mined = _mine(prepared, run, chosen, settings, folder, self._progress)
        if beside and not mined.groups:
            return self._as_it_came(reader, _NO_NEGATIVES, notes)
        way = measured.speed.training
        self._say(f"Plan: {chosen.sentence()}; {way.precision}, {way.attention} attention.")
        if not chosen.fits:
            self._say("The budget is short for this data and machine: more time (--budget) would train better.")
        reranker, training = self._train(reader, chosen, mined, first_stage, notes)
        return reranker, {"plan": asdict(chosen), "training": asdict(training)}

    def _as_it_came(self, reader: _Reader, why: str, notes: list[str]) -> tuple[TunedReranker | None, dict[str, Any]]:
        """The base, to be read with as it is, if there is time for that; why it is not tuned is a sentence's end."""
        chosen = self._folder.recall("reading")
        if chosen is None:
            found = reader.measured.reading(self._left_s())
            chosen = {} if found is None else asdict(found)
            self._folder.remember(reading=chosen)
        if not chosen:
            self._explain(f"The cross-encoder was left out: {why}", notes)
            return None, {}
        plan = ReadingPlan(**chosen)
        self._explain(
            f"The cross-encoder was not tuned: {why} The base {self._base.name!r} reads {plan.reads} candidates "
            "of each question as it came, and dev decides how much that counts.",
            notes,
        )
        reranker = TunedReranker(
            model=reader.model,
            tokenizer=reader.tokenizer,
            base=self._base,
            max_length=plan.max_length,
            precision=reader.measured.scoring_precision,
            training=None,
            chance_loss=0.0,
            reads=plan.reads,
        )
        return reranker, {"plan": chosen}

    def _explain(self, sentence: str, notes: list[str]) -> None:
        self._say(sentence)
        notes.append(sentence)

    def _train(
        self,
        reader: _Reader,
        chosen: Plan,
        mined: MinedGroups,
        first_stage: TunedFirstStage | None,
        notes: list[str],
    ) -> tuple[TunedReranker, TrainingSettings]:
        prepared, settings, folder = self._prepared, self._settings, self._folder
        model, tokenizer, measured = reader.model, reader.tokenizer, reader.measured
        encoder = PairEncoder(tokenizer, chosen.max_length)
        groups = encode_groups(mined.groups, prepared.collection, encoder)
        loss = make_loss(settings.loss, _pos_weight(settings, chosen))
        training = TrainingSettings(
            n_steps=chosen.n_steps,
            loss=settings.loss,
            learning_rate=learning_rate(model, self._base),
            batch_groups=BATCH_GROUPS,
            precision=measured.speed.training.precision,
            attention=measured.speed.training.attention,
            n_evaluations=chosen.n_evaluations,
            # The plan is made of measured speed; a machine that slows down must not overrun without end.
            deadline_s=max(30.0, 1.5 * chosen.training_s),
            seed=settings.seed,
        )
        candidates = prepared.candidates if first_stage is None else first_stage.candidates
        validate = DevCheck(prepared, candidates, tokenizer, chosen, measured.scoring_precision)
        with prepared.stopwatch.stage("train"):
            result = train(
                model, encoder, groups, loss, validate, training, folder.training / "reranker", self._progress,
                on_evaluation=lambda step, score: self._say(f"Step {step}: dev {HEADLINE} {score:.3f}"),
            )  # fmt: skip
        ended = _training_sentence(result)
        self._say(ended)
        notes += [*_mining_notes(mined), f"{ended} {_dev_curve(result)}"]
        sizes = [len(group.pairs) for group in groups]
        reranker = TunedReranker(
            model=load_trained(result.model_path),
            tokenizer=tokenizer,
            base=self._base,
            max_length=chosen.max_length,
            precision=measured.scoring_precision,
            training=result,
            chance_loss=loss.chance(sizes, len(sizes) / sum(sizes)),
            reads=chosen.reads,
        )
        return reranker, training


class DevCheck:
    """nDCG@10 of a model on a seeded sample of dev questions and the top of their candidates.

    Args:
        prepared: Splits and texts.
        candidates: Of dev, from the first stage under the reranker.
        tokenizer: Of the model.
        chosen: Says how many questions and how deep.
        precision: To score with.
    """

    def __init__(self, prepared: Prepared, candidates: Run, tokenizer: Any, chosen: Plan, precision: Precision) -> None:
        random = np.random.default_rng(prepared.splits.seed or 0)
        dev = np.array(prepared.splits.dev)
        self._query_ids = sorted(random.choice(dev, size=min(chosen.n_dev, len(dev)), replace=False).tolist())
        self._qrels = prepared.collection.qrels
        self._run = top_of(candidates, self._query_ids, chosen.dev_depth)
        self._collection = prepared.collection
        self._tokenizer, self._max_length, self._precision = tokenizer, chosen.max_length, precision

    def __call__(self, model: Any) -> float:
        """Mean nDCG@10; NaN scores give 0."""
        scorer = TorchScorer(model, self._tokenizer, self._max_length, self._precision)
        logits, _ = score_run(scorer, self._collection, self._run, self._query_ids, silent)
        if not all(np.isfinite(scores).all() for scores in logits.values()):
            return 0.0
        run = rerank(self._run, logits, "dev")
        return headline_mean(run, self._qrels, self._query_ids)


def _mine(
    prepared: Prepared, run: Run, chosen: Plan, settings: TuneSettings, folder: RunFolder, progress: Progress
) -> MinedGroups:
    collection, splits = prepared.collection, prepared.splits
    mined = mine(
        collection,
        run,
        splits.train,
        protected_passage_ids=splits.held_out(collection),
        near_duplicates=prepared.near_duplicates(),
        similarity=prepared.similarity,
        settings=MiningSettings(n_negatives=chosen.n_negatives, seed=settings.seed),
        progress=progress,
    )
    write_account(folder.mining, mined.account)
    return mined


def _mining_notes(mined: MinedGroups) -> tuple[str, ...]:
    totals = mined.account.totals
    removed = ", ".join(f"{n:,} {reason}" for reason, n in totals.removed.items() if n) or "none"
    taken = ", ".join(f"{n:,} {band}" for band, n in totals.taken.items() if n)
    notes = [
        f"Trained on {totals.n_groups:,} question-answer pairs with mined negatives ({taken}). Candidates never used "
        f"as negatives: {removed}. Details and samples to review: folder mining/."
    ]
    if totals.n_dropped:
        notes.append(f"{totals.n_dropped:,} pairs had no usable negative and were not trained on.")
    if not totals.margin_rule:
        notes.append("The embedder cannot read this language: likely false negatives could not be filtered out.")
    return tuple(notes)


def encode_groups(groups: Sequence[TrainingGroup], collection: Collection, encoder: PairEncoder) -> list[EncodedGroup]:
    """Tokenise training groups, every text once; the positive is each group's first candidate."""
    query_ids = list(dict.fromkeys(group.query_id for group in groups))
    passage_ids = list(dict.fromkeys(pid for group in groups for pid in (group.positive_id, *group.negative_ids)))
    queries = encoder.tokenize([collection.queries[query_id].text for query_id in query_ids])
    passages = encoder.tokenize([collection.passages[passage_id].full_text for passage_id in passage_ids])
    query = dict(zip(query_ids, queries, strict=True))
    passage = dict(zip(passage_ids, passages, strict=True))
    return [
        EncodedGroup(
            tuple(encoder.pair(query[g.query_id], passage[pid]) for pid in (g.positive_id, *g.negative_ids)),
            (1.0, *(0.0 for _ in g.negative_ids)),
        )
        for g in groups
    ]


def learning_rate(model: Any, base: Checkpoint) -> float:
    """Peak learning rate by size and start: small models and fresh heads take and need larger steps."""
    n_million = sum(parameter.numel() for parameter in model.parameters()) / 1e6
    rate = 5e-5 if n_million < 50 else 2e-5 if n_million < 350 else 1e-5
    return rate * 2 if base.kind is CheckpointKind.ENCODER else rate


def _pos_weight(settings: TuneSettings, chosen: Plan) -> float | None:
    if settings.loss != "bce" or settings.pos_weight is not None:
        return settings.pos_weight
    return float(chosen.n_negatives)


def _no_time(judging_s: float) -> str:
    return (
        f"there is no time to tune it on half of the train questions beside the {judging_s:.0f} s for reading dev and "
        "test candidates. Give more time (--budget), or --stages both to tune it anyway."
    )


def _training_sentence(result: TrainingResult) -> str:
    continued = f" (continued from step {result.resumed_from})" if result.resumed_from else ""
    return f"Training ended after {result.n_steps} steps{continued}: {result.stopped}. Kept: step {result.kept_step}."


def _dev_curve(result: TrainingResult) -> str:
    points = ", ".join(f"{score:.3f} at step {step}" for step, score in result.dev_scores)
    return f"Dev {HEADLINE} on the way: {points}."
