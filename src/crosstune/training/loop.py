"""Step after step: batches, dev evaluations, checkpoints, stops. Imports torch: only `train` imports this."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from crosstune.errors import ConfigError
from crosstune.out_of_memory import is_out_of_memory
from crosstune.progress import Progress
from crosstune.training.batches import EncodedGroup, GroupCollator, LengthGroupedSampler, micro_batches
from crosstune.training.checkpointing import (
    BestModel,
    Passed,
    load_checkpoint,
    passed_until,
    save_checkpoint,
)
from crosstune.training.engine import Engine, Optimizer
from crosstune.training.losses import Loss
from crosstune.training.settings import TrainingSettings


@dataclass(slots=True)
class Outcome:
    """How the loop ended; filled while it runs."""

    losses: list[float] = field(default_factory=list)
    n_steps: int = 0
    stopped: str = "finished"
    resumed_from: int = 0


class Batches:
    """Gradients of whole batches, in as many parts as memory asks for.

    Args:
        engine: Sums the gradients.
        collator: Groups to tensors.
        groups: All training examples.
        loss: Of a batch.
        most_tokens: Padded tokens of a part.
    """

    def __init__(
        self, engine: Engine, collator: GroupCollator, groups: Sequence[EncodedGroup], loss: Loss, most_tokens: int
    ) -> None:
        self._engine = engine
        self._collator = collator
        self._groups = groups
        self._loss = loss
        self._most_tokens = most_tokens

    def gradients(self, batch: Sequence[int]) -> float:
        """Sum the gradients of the groups at these places; when memory runs out, halve the parts and begin again."""
        groups = [self._groups[i] for i in batch]
        while True:
            try:
                return self._once(groups)
            except RuntimeError as error:
                if not is_out_of_memory(error):
                    raise
                self._halve(groups, error)

    def _halve(self, groups: Sequence[EncodedGroup], error: RuntimeError) -> None:
        if len(micro_batches(groups, self._most_tokens)) == len(groups) and not self._collator.halve():
            raise ConfigError(
                "one pair alone does not fit into memory; train with shorter pairs, a smaller base, or more memory"
            ) from error
        self._most_tokens //= 2
        self._engine.forget_gradients()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()

    def _once(self, groups: Sequence[EncodedGroup]) -> float:
        parts = [self._collator(part) for part in micro_batches(groups, self._most_tokens)]
        n_terms = [self._loss.n_terms(part["mask"]) for part in parts]
        losses = [self._part(part, n / sum(n_terms)) for part, n in zip(parts, n_terms, strict=True)]
        return sum(losses)

    def _part(self, part: dict[str, Any], share: float) -> float:
        def loss(logits: Tensor) -> Tensor:
            position, labels, mask = (part[name].to(logits.device) for name in ("position", "labels", "mask"))
            return self._loss(logits[position], labels, mask) * share

        return self._engine.gradients(part["slices"], loss)


def run(
    *,
    engine: Engine,
    gradients: Callable[[list[int]], float],
    sampler: LengthGroupedSampler,
    best: BestModel,
    settings: TrainingSettings,
    folder: Path,
    resume: Path | None,
    progress: Progress,
) -> Outcome:
    """Run the loop from the start or from `resume`.

    Args:
        engine: Of the model.
        gradients: Sums the gradients of a batch, given by the places of its examples, and returns its loss.
        sampler: The batches.
        best: Dev scores and the weights to keep.
        settings: See `TrainingSettings`.
        folder: For checkpoints.
        resume: Checkpoint to go on from.
        progress: Told of steps.
    """
    passed = Passed([], 0.0) if resume is None else passed_until(resume)
    outcome = Outcome(losses=passed.losses, resumed_from=len(passed.losses), n_steps=len(passed.losses))
    folder.mkdir(parents=True, exist_ok=True)
    optimizer = Optimizer(engine, settings)
    if resume is not None:
        optimizer.load(load_checkpoint(resume, engine.model))
        engine.recall()
        if ended := _ended(best, settings, passed):
            outcome.stopped = ended
            return outcome
    loop = _Loop(gradients, engine, optimizer, best, settings, folder, outcome, passed.elapsed_s)
    engine.model.train()
    with torch.random.fork_rng(), progress("Training", settings.n_steps) as advance:
        advance(outcome.resumed_from)
        for number, batch in enumerate(sampler):
            if number < outcome.resumed_from:
                continue
            going_on = loop.step(batch)
            advance(1)
            if not going_on:
                break
    engine.publish()
    return outcome


class _Loop:
    """One step and what follows it."""

    def __init__(
        self,
        gradients: Callable[[list[int]], float],
        engine: Engine,
        optimizer: Optimizer,
        best: BestModel,
        settings: TrainingSettings,
        folder: Path,
        outcome: Outcome,
        elapsed_s: float,
    ) -> None:
        self._gradients = gradients
        self._engine = engine
        self._optimizer = optimizer
        self._best = best
        self._settings = settings
        self._folder = folder
        self._outcome = outcome
        self._saved = time.monotonic()
        self._started = self._saved - elapsed_s

    def step(self, batch: list[int]) -> bool:
        """Train one batch; evaluate and save when it is time. False when training is over."""
        outcome = self._outcome
        # Seeded by its number, so that a resumed run draws what it would have drawn.
        torch.manual_seed(self._settings.seed * 1_000_003 + outcome.n_steps)
        outcome.losses.append(self._gradients(batch))
        if math.isfinite(outcome.losses[-1]):
            self._optimizer.step(outcome.n_steps)
        outcome.n_steps += 1
        stopped = self._after_step()
        outcome.stopped = stopped or outcome.stopped
        return stopped is None

    def _after_step(self) -> str | None:
        """Why training ends here, or None."""
        settings, now = self._settings, time.monotonic()
        if not math.isfinite(self._outcome.losses[-1]):
            return "nan"
        due = self._outcome.n_steps in self._best.evaluation_steps
        late = settings.deadline_s is not None and now - self._started > settings.deadline_s
        if due or (late and settings.n_evaluations):
            self._evaluate()
        if due or late or now - self._saved > settings.checkpoint_every_s:
            self._save()
        if self._best.exhausted:
            return "no better dev score"
        return "deadline" if late else None

    def _evaluate(self) -> None:
        self._engine.publish()
        self._best.evaluate(self._engine.model, self._outcome.n_steps)
        self._engine.model.train()
        self._engine.refresh()

    def _save(self) -> None:
        self._engine.publish()
        self._saved = time.monotonic()
        passed = Passed(self._outcome.losses, self._saved - self._started)
        save_checkpoint(self._folder, self._engine.model, self._optimizer.tensors(), passed)
        self._best.drop_superseded()


def _ended(best: BestModel, settings: TrainingSettings, passed: Passed) -> str | None:
    """Why the run had ended when it was killed afterwards, or None."""
    if best.exhausted:
        return "no better dev score"
    if settings.deadline_s is not None and passed.elapsed_s > settings.deadline_s:
        return "deadline"
    return "finished" if len(passed.losses) >= settings.n_steps else None
