"""The article's recipe, faithfully: what our default is measured against.

Batches of 16 pairs, 8 epochs, binary cross-entropy, one random contradiction for each entailment, the last
epoch kept. Its faults are kept and named: contradictions that word overlap can tell, an error measured on
the training pairs, no look at ranking. What differs from the article is in `_DIFFERENCES`, which every
report shows.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from textwrap import shorten
from typing import Any

import numpy as np

from crosstune.checkpoints import Checkpoint
from crosstune.data.nli import LABELS, NLIPair, build_nli_pairs
from crosstune.errors import ConfigError
from crosstune.pair_encoding import EncodedPair, longest_pair
from crosstune.progress import Progress, silent
from crosstune.recipes.choose import Tuned, TunedReranker
from crosstune.recipes.finished import FinishedRun
from crosstune.recipes.prepare import Prepared, Say, unheard
from crosstune.recipes.run import load_base, run_recipe
from crosstune.recipes.run_folder import RunFolder
from crosstune.recipes.settings import TuneSettings
from crosstune.scoring import Precision, TorchScorer, best_device, measure_scoring
from crosstune.training import (
    EncodedGroup,
    Throughput,
    TrainingResult,
    TrainingSettings,
    load_trained,
    make_loss,
    measure_training,
    train,
)

BLOG_BASE = "BAAI/bge-reranker-base"

_N_EPOCHS = 8
_BATCH_PAIRS = 16
_LEARNING_RATE = 2e-5
_LONGEST = 512
_PAIRS_TO_TIME = 24
_SHOWN_CHARACTERS = 70

_DIFFERENCES = (
    "Other than the article: only the train questions are trained on (the article trains on all), so that "
    "test questions are unseen; and a row never gets an answer equal to its own as its contradiction (with "
    "an odd number of rows the article's can).",
    "Also: rows are cleaned as in every recipe; all is seeded; dropout is 0, since it costs much time on a "
    "CPU; pairs are shuffled in each epoch, then batched with others of similar length; a pair that is too "
    "long loses the end of its answer.",
)


def tune_blog(
    path: str | Path,
    out: str | Path,
    settings: TuneSettings | None = None,
    *,
    overwrite: bool = False,
    progress: Progress = silent,
    say: Say = unheard,
) -> FinishedRun:
    """Tune a reranker by the article's recipe, then judge it like any other.

    Killed at any moment, the same call continues from the last checkpoint; of a complete run it reads the result.

    Args:
        path: CSV, TSV, JSONL, Parquet, or a BEIR folder.
        out: Folder for model, report, runs and manifest.
        settings: Base, first stage, depth, seed and how the file is read and split; how to train is the
            recipe's. None means the defaults with the article's base, `BLOG_BASE`.
        overwrite: Replace a run that the folder holds.
        progress, say: Told of the work; `say` hears the error after each epoch and three predictions.

    Raises:
        DataError, LeakageError: The data cannot be used.
        CheckpointError: The base cannot be found or used.
        ConfigError: A setting is wrong or not this recipe's, or `out` holds another run.
        MissingExtraError: The extra `train` is not installed.
    """
    settings = settings or TuneSettings(base=BLOG_BASE)
    resolved = _resolved(settings)

    def train_pairs(prepared: Prepared, base: Checkpoint, folder: RunFolder) -> Tuned:
        return _train(prepared, base, settings, resolved, folder, progress, say)

    return run_recipe(train_pairs, path, out, settings, resolved, overwrite=overwrite, progress=progress, say=say)


def train_qa_dict(prepared: Prepared) -> dict[str, dict[str, str]]:
    """The article's qa_dict of the train questions alone: one row for each of their relevant passages."""
    collection = prepared.collection
    rows = [
        {"q": collection.queries[query_id].text, "a": collection.passages[passage_id].full_text}
        for query_id in prepared.splits.train
        for passage_id, relevance in collection.qrels.get(query_id, {}).items()
        if relevance > 0
    ]
    return {str(i): row for i, row in enumerate(rows)}


def example_pairs(pairs: Sequence[NLIPair]) -> list[NLIPair]:
    """The pairs whose prediction the article ends with: one question with its answer and with two others.

    The others are the first contradictions drawn for any question that do not answer this one.
    """
    first = pairs[0]
    own = {pair.passage for pair in pairs if pair.query == first.query and pair.label == LABELS["entailment"]}
    drawn = (pair.passage for pair in pairs if pair.label == LABELS["contradiction"])
    others = list(dict.fromkeys(passage for passage in drawn if passage not in own))[:2]
    return [first, *(NLIPair(first.query, text, LABELS["contradiction"], first.key) for text in others)]


def _train(
    prepared: Prepared,
    base: Checkpoint,
    settings: TuneSettings,
    resolved: dict[str, Any],
    folder: RunFolder,
    progress: Progress,
    say: Say,
) -> Tuned:
    model, tokenizer = load_base(base, settings.seed, say)
    pairs = build_nli_pairs(train_qa_dict(prepared), settings.seed)
    max_length = longest_pair(model.config, _LONGEST)
    scorer = TorchScorer(model, tokenizer, max_length)
    encoded = scorer.encode([(pair.query, pair.passage) for pair in pairs])
    with prepared.stopwatch.stage("measure speed"):
        way, scoring_precision = _measure(model, scorer, pairs, encoded, settings.seed, folder)
    say(_plan_sentence(encoded, max_length, way))
    steps_per_epoch = math.ceil(len(pairs) / _BATCH_PAIRS)
    training = _training_settings(_N_EPOCHS * steps_per_epoch, way, settings.seed)
    groups = [EncodedGroup((pair,), (float(source.label),)) for pair, source in zip(encoded, pairs, strict=True)]

    def heard(step: int, score: float) -> None:
        say(f"Epoch {step // steps_per_epoch} of {_N_EPOCHS}: MSE on the training pairs {-score:.4f}")

    validate = TrainingError(tokenizer, max_length, scoring_precision, groups)
    with prepared.stopwatch.stage("train"):
        result = train(
            model, scorer.encoder, groups, make_loss("bce"), validate, training, folder.training, progress,
            on_evaluation=heard,
        )  # fmt: skip
    tuned = load_trained(result.model_path).to(best_device())
    for sentence in _predictions(TorchScorer(tuned, tokenizer, max_length), pairs):
        say(sentence)
    reranker = TunedReranker(
        model=tuned,
        tokenizer=tokenizer,
        base=base,
        max_length=max_length,
        precision=scoring_precision,
        training=result,
        chance_loss=math.log(2),
        reads=settings.depth,
    )
    return Tuned(
        reranker=reranker,
        first_stage=None,
        settings=resolved | {"training": asdict(training)},
        notes=_notes(result, prepared),
    )


class TrainingError:
    """The article's measure of a model: the squared error on the very pairs it is trained on, made negative.

    Args:
        tokenizer, max_length: Of the model.
        precision: To score with.
        groups: The training pairs.
    """

    def __init__(self, tokenizer: Any, max_length: int, precision: Precision, groups: Sequence[EncodedGroup]) -> None:
        self._scoring = (tokenizer, max_length, precision)
        self._pairs = [group.pairs[0] for group in groups]
        self._labels = np.array([group.labels[0] for group in groups], np.float64)

    def __call__(self, model: Any) -> float:
        """Minus the error, since training takes higher for better."""
        from crosstune.training.mse import mean_squared_error

        logits = TorchScorer(model, *self._scoring).score_encoded(self._pairs)
        return -mean_squared_error(logits, self._labels)


def _training_settings(n_steps: int, way: Throughput, seed: int) -> TrainingSettings:
    """The article's; gradients are clipped at 1, AdamW and the linear schedule are the engine's own."""
    return TrainingSettings(
        n_steps=n_steps,
        loss="bce",
        learning_rate=_LEARNING_RATE,
        batch_groups=_BATCH_PAIRS,
        warmup_share=0.1,
        weight_decay=0.01,
        precision=way.precision,
        attention=way.attention,
        n_evaluations=_N_EPOCHS,
        keep="last",
        seed=seed,
    )


def _resolved(settings: TuneSettings) -> dict[str, Any]:
    """Settings with the recipe's own in place of what it does not follow."""
    default = TuneSettings()
    if settings.pos_weight is not None or settings.budget_s != default.budget_s:
        raise ConfigError(
            "the blog recipe is fixed: it has no time budget (--budget) and no weight of positives "
            "(--pos-weight); leave them out, or use the default recipe"
        )
    if settings.stages not in ("auto", "reranker"):
        raise ConfigError(
            f"the blog recipe tunes the reranker alone, not --stages {settings.stages}; use the default recipe"
        )
    return settings.to_json() | {
        "recipe": "blog",
        "stages": "reranker",
        "loss": "bce",
        "pos_weight": 1.0,
        "budget_s": None,
    }


def _measure(
    model: Any,
    scorer: TorchScorer,
    pairs: Sequence[NLIPair],
    encoded: Sequence[EncodedPair],
    seed: int,
    folder: RunFolder,
) -> tuple[Throughput, Precision]:
    """The fastest way to train and the precision to score with: measured, or what the interrupted run chose."""
    measured = folder.recall("measured")
    if measured is None:
        n_timed = min(_PAIRS_TO_TIME, len(pairs))
        timed = np.random.default_rng(seed).choice(len(pairs), size=n_timed, replace=False)
        texts = [(pairs[i].query, pairs[i].passage) for i in timed]
        tokenizer, max_length = scorer.encoder.tokenizer, scorer.encoder.max_length
        scoring_precision, _ = measure_scoring(model, tokenizer, max_length, texts)
        fastest = measure_training(model, scorer.encoder, [encoded[i] for i in timed])[0]
        measured = {"training": asdict(fastest), "scoring_precision": scoring_precision}
        folder.remember(measured=measured)
    return Throughput(**measured["training"]), measured["scoring_precision"]


def _plan_sentence(encoded: Sequence[EncodedPair], max_length: int, way: Throughput) -> str:
    n_cut = sum(pair.truncated for pair in encoded)
    step_s = way.seconds(_BATCH_PAIRS * float(np.mean([len(pair) for pair in encoded])))
    minutes = _N_EPOCHS * math.ceil(len(encoded) / _BATCH_PAIRS) * step_s / 60
    return (
        f"Plan of the blog recipe: {len(encoded):,} pairs, half entailment and half contradiction, "
        f"{_N_EPOCHS} epochs in batches of {_BATCH_PAIRS}; {n_cut:,} pairs are cut at {max_length} tokens. "
        f"{way.precision}, {way.attention} attention; about {minutes:.1f} min of "
        "training."
    )


def _predictions(scorer: TorchScorer, pairs: Sequence[NLIPair]) -> list[str]:
    shown = example_pairs(pairs)
    logits = scorer.score_pairs([(pair.query, pair.passage) for pair in shown])
    probabilities = np.exp(-np.logaddexp(0.0, -logits))  # sigmoid without overflow
    names = {label: name for name, label in LABELS.items()}
    return [
        f"Predicted {probability:.5f} for {names[pair.label]}: {shorten(pair.query, _SHOWN_CHARACTERS)} / "
        f"{shorten(pair.passage, _SHOWN_CHARACTERS)}"
        for pair, probability in zip(shown, probabilities, strict=True)
    ]


def _notes(result: TrainingResult, prepared: Prepared) -> tuple[str, ...]:
    errors = ", ".join(f"{-score:.4f}" for _, score in result.dev_scores)
    return (
        f"Blog recipe: batches of {_BATCH_PAIRS} pairs, {_N_EPOCHS} epochs, learning rate {_LEARNING_RATE:g} "
        "with 10% warm-up, binary cross-entropy; the last epoch is kept, whatever dev says.",
        f"MSE on the training pairs after each epoch: {errors}. This is the article's measure and its fault: "
        "it is taken on what was learnt by heart and says nothing about ranking. Read the table instead.",
        "The contradictions are random answers, which word overlap alone mostly tells from the right ones.",
        *_DIFFERENCES,
        *_left_out(prepared),
    )


def _left_out(prepared: Prepared) -> list[str]:
    """What of the train questions this recipe cannot use, or uses as the default recipe never would."""
    collection, splits = prepared.collection, prepared.splits
    notes = []
    n_unanswered = sum(not collection.relevant(query_id) for query_id in splits.train)
    if n_unanswered:
        notes.append(f"{n_unanswered} train questions have no relevant answer and are not trained on.")
    judged = (r for query_id in splits.train for r in collection.qrels.get(query_id, {}).values())
    n_negative = sum(relevance == 0 for relevance in judged)
    if n_negative:
        notes.append(f"{n_negative} answers judged wrong are not used: this recipe draws its own.")
    trained = {pid for query_id in splits.train for pid in collection.relevant(query_id)}
    held_out = splits.held_out(collection)
    if trained & held_out:
        notes.append(
            f"{len(trained & held_out)} answers of train questions also answer dev or test questions and may "
            "have been contradictions in training; the default recipe never does that."
        )
    return notes
