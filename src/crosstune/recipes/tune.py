"""The main job: a question/answer file to a tuned reranker and an honest verdict."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from crosstune.checkpoints import Checkpoint, CheckpointKind
from crosstune.data import near_duplicate_passages
from crosstune.evaluation import HEADLINE, per_query
from crosstune.mining import MinedGroups, MiningSettings, mine, write_account
from crosstune.pair_encoding import PairEncoder
from crosstune.progress import Progress, silent
from crosstune.recipes.choose import Tuned, score_run, select
from crosstune.recipes.finished import FinishedRun
from crosstune.recipes.measure import BATCH_GROUPS, measure
from crosstune.recipes.prepare import Prepared, Say, unheard
from crosstune.recipes.run import load_base, run_recipe
from crosstune.recipes.run_folder import RunFolder
from crosstune.recipes.settings import TuneSettings
from crosstune.scoring import Precision, TorchScorer, rerank
from crosstune.training import (
    EncodedGroup,
    Plan,
    TrainingResult,
    TrainingSettings,
    load_trained,
    make_loss,
    train,
)
from crosstune.types import Collection, Run, TrainingGroup


def tune(
    path: str | Path,
    out: str | Path,
    settings: TuneSettings | None = None,
    *,
    overwrite: bool = False,
    progress: Progress = silent,
    say: Say = unheard,
) -> FinishedRun:
    """Tune a reranker on a file of questions and answers, judge it on questions it has not seen, and save it.

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

    def train_groups(prepared: Prepared, base: Checkpoint, folder: RunFolder) -> Tuned:
        return _train(prepared, base, settings, folder, progress, say)

    resolved = settings.to_json() | {"recipe": "default"}
    return run_recipe(train_groups, path, out, settings, resolved, overwrite=overwrite, progress=progress, say=say)


def _train(
    prepared: Prepared,
    base: Checkpoint,
    settings: TuneSettings,
    folder: RunFolder,
    progress: Progress,
    say: Say,
) -> Tuned:
    stopwatch = prepared.stopwatch
    model, tokenizer = load_base(base, settings.seed, say)
    with stopwatch.stage("measure speed"):
        measured = measure(model, tokenizer, prepared, base, settings, folder)
    chosen = measured.plan
    say(f"Plan: {chosen.sentence()}; {measured.training_precision}, {measured.attention} attention.")
    if not chosen.fits:
        say("The budget is short for this data and machine: more time (--budget) would train better.")
    encoder = PairEncoder(tokenizer, chosen.max_length)
    with stopwatch.stage("mine negatives"):
        mined = _mine(prepared, chosen, settings, folder, progress)
        groups = encode_groups(mined.groups, prepared.collection, encoder)
    loss = make_loss(settings.loss, _pos_weight(settings, chosen))
    training = TrainingSettings(
        n_steps=chosen.n_steps,
        loss=settings.loss,
        learning_rate=learning_rate(model, base),
        batch_groups=BATCH_GROUPS,
        precision=measured.training_precision,
        attention=measured.attention,
        n_evaluations=chosen.n_evaluations,
        # The plan is made of measured speed; a machine that slows down must not overrun without end.
        deadline_s=max(30.0, 1.5 * chosen.training_s),
        seed=settings.seed,
    )
    validate = DevCheck(prepared, tokenizer, chosen, measured.scoring_precision)
    with stopwatch.stage("train"):
        result = train(
            model, encoder, groups, loss, validate, training, folder.training, progress,
            on_evaluation=lambda step, score: say(f"Step {step}: dev {HEADLINE} {score:.3f}"),
        )  # fmt: skip
    ended = _training_sentence(result)
    say(ended)
    sizes = [len(group.pairs) for group in groups]
    return Tuned(
        model=load_trained(result.model_path),
        tokenizer=tokenizer,
        base=base,
        max_length=chosen.max_length,
        precision=measured.scoring_precision,
        training=result,
        chance_loss=loss.chance(sizes, len(sizes) / sum(sizes)),
        settings=settings.to_json() | {"recipe": "default", "plan": asdict(chosen), "training": asdict(training)},
        notes=(*_mining_notes(mined), f"{ended} {_dev_curve(result)}"),
    )


class DevCheck:
    """nDCG@10 of a model on a seeded sample of dev questions and the top of their candidates.

    Args:
        prepared: Splits and candidates.
        tokenizer: Of the model.
        chosen: Says how many questions and how deep.
        precision: To score with.
    """

    def __init__(self, prepared: Prepared, tokenizer: Any, chosen: Plan, precision: Precision) -> None:
        random = np.random.default_rng(prepared.splits.seed or 0)
        dev = np.array(prepared.splits.dev)
        self._query_ids = sorted(random.choice(dev, size=min(chosen.n_dev, len(dev)), replace=False).tolist())
        self._qrels = prepared.collection.qrels
        candidates = select(prepared.candidates, self._query_ids).candidates
        shallow = {query_id: ranked[: chosen.dev_depth] for query_id, ranked in candidates.items()}
        self._run = Run("dev", chosen.dev_depth, prepared.candidates.score_kind, shallow)
        self._collection = prepared.collection
        self._tokenizer, self._max_length, self._precision = tokenizer, chosen.max_length, precision

    def __call__(self, model: Any) -> float:
        """Mean nDCG@10; NaN scores give 0."""
        scorer = TorchScorer(model, self._tokenizer, self._max_length, self._precision)
        logits, _ = score_run(scorer, self._collection, self._run, self._query_ids, silent)
        if not all(np.isfinite(scores).all() for scores in logits.values()):
            return 0.0
        run = rerank(self._run, logits, "dev")
        return float(np.mean(per_query(run, self._qrels, self._query_ids, (HEADLINE,))[HEADLINE]))


def _mine(
    prepared: Prepared, chosen: Plan, settings: TuneSettings, folder: RunFolder, progress: Progress
) -> MinedGroups:
    collection, splits = prepared.collection, prepared.splits
    mined = mine(
        collection,
        prepared.mining_run,
        splits.train,
        protected_passage_ids={pid for query_id in splits.dev + splits.test for pid in collection.relevant(query_id)},
        near_duplicates=near_duplicate_passages(collection),
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


def _training_sentence(result: TrainingResult) -> str:
    continued = f" (continued from step {result.resumed_from})" if result.resumed_from else ""
    return f"Training ended after {result.n_steps} steps{continued}: {result.stopped}. Kept: step {result.kept_step}."


def _dev_curve(result: TrainingResult) -> str:
    points = ", ".join(f"{score:.3f} at step {step}" for step, score in result.dev_scores)
    return f"Dev {HEADLINE} on the way: {points}."
