"""Groups to a tuned model: what goes together is in `loop`, one step in `engine`, batches in `batches`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from crosstune.checkpoints import Checkpoint, CheckpointKind, load_model
from crosstune.errors import ConfigError
from crosstune.extras import require
from crosstune.pair_encoding import PairEncoder
from crosstune.progress import Progress, silent
from crosstune.training.batches import EncodedGroup, GroupCollator, LengthGroupedSampler, slice_tokens
from crosstune.training.checkpointing import BestModel, last_complete_checkpoint
from crosstune.training.losses import Loss
from crosstune.training.settings import TrainingSettings

if TYPE_CHECKING:
    from crosstune.training.loop import Outcome


@dataclass(frozen=True, slots=True)
class TrainingResult:
    """What training did.

    Attributes:
        model_path: Folder of the kept weights (safetensors and config).
        losses: Loss of every step, this process's steps and those before a resume.
        dev_scores: (step, dev score) of every evaluation.
        kept_step: Step whose weights are kept.
        n_steps: Steps done.
        stopped: Why training ended: "finished", "no better dev score", "deadline", "nan".
        resumed_from: Step at which this process took over, 0 for a fresh start.
    """

    model_path: Path
    losses: tuple[float, ...]
    dev_scores: tuple[tuple[int, float], ...]
    kept_step: int
    n_steps: int
    stopped: str
    resumed_from: int


def train(
    model: Any,
    encoder: PairEncoder,
    groups: Sequence[EncodedGroup],
    loss: Loss,
    validate: Callable[[Any], float],
    settings: TrainingSettings,
    folder: Path,
    progress: Progress = silent,
    on_evaluation: Callable[[int, float], None] = lambda step, score: None,
) -> TrainingResult:
    """Train until the steps are done, dev stops rising, or the deadline; continue a run that was killed.

    Args:
        model: Sequence-classification model with one logit, float32; trained in place.
        encoder: Pads pairs.
        groups: Training examples.
        loss: See `crosstune.training.losses`.
        validate: Model to dev score, higher is better.
        settings: See `TrainingSettings`.
        folder: For checkpoints; a folder with complete checkpoints of this run is continued.
        progress: Told of steps.
        on_evaluation: Called with (step, dev score) after each evaluation.

    Raises:
        ConfigError: There are no groups.
        MissingExtraError: The extra `train` is not installed.
    """
    if not groups:
        raise ConfigError("there is nothing to train on: no question has both an answer and a negative")
    require("torch", extra="train", what="training")
    from crosstune.training.engine import Engine
    from crosstune.training.loop import Batches, run
    from crosstune.training.memory import tokens_at_once

    resume = last_complete_checkpoint(folder)
    best = BestModel(folder, settings, validate, on_evaluation, resume)
    model.set_attn_implementation(settings.attention)
    device = next(model.parameters()).device
    pairs = [pair for group in groups for pair in group.pairs]
    engine = Engine(model, settings.precision, token_ids([pair.ids for pair in pairs]))
    most_tokens = tokens_at_once(model.config, device, settings.precision, max(len(pair.ids) for pair in pairs))
    collator = GroupCollator(encoder, slice_tokens(device.type), engine.n_workers)
    outcome = run(
        engine=engine,
        gradients=Batches(engine, collator, groups, loss, most_tokens).gradients,
        sampler=LengthGroupedSampler(
            [group.n_tokens for group in groups], settings.batch_groups, settings.n_steps, settings.seed
        ),
        best=best,
        settings=settings,
        folder=folder,
        resume=resume,
        progress=progress,
    )
    return result(model, best, outcome, settings)


def result(model: Any, best: BestModel, outcome: Outcome, settings: TrainingSettings) -> TrainingResult:
    """What a loop that has ended leaves."""
    path = best.keep_last(model, outcome.n_steps) if settings.keep == "last" else best.path(model, outcome.n_steps)
    return TrainingResult(
        model_path=path,
        losses=tuple(outcome.losses),
        dev_scores=tuple(best.scores),
        kept_step=best.kept_step,
        n_steps=outcome.n_steps,
        stopped=outcome.stopped,
        resumed_from=outcome.resumed_from,
    )


def token_ids(texts: Iterable[NDArray[np.int32]]) -> list[int]:
    """Every token id that training will see; padding, which nothing looks at, need not be among them."""
    ids: set[int] = set()
    for text in texts:
        ids.update(text.tolist())
    return sorted(ids)


def load_trained(path: Path) -> Any:
    """The model that `train` kept, float32, dropout off."""
    return load_model(Checkpoint(str(path), path, "", CheckpointKind.RERANKER), dropout=0.0)
