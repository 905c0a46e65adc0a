"""Which weights are kept, and how a killed run finds its way back.

A checkpoint counts only when its marker is there: it is written in several steps, and a kill between two of them
leaves a folder that looks like one. Everything in it is safetensors or JSON. The best weights go into a folder of
their own, by way of a temporary one, and `best.json` is replaced in one step. The weights they supersede stay until a
checkpoint knows of the better ones, since a run that is killed before it starts again from the checkpoint before.
"""

from __future__ import annotations

import json
import math
import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from crosstune.checkpoints import quiet_transformers
from crosstune.files import write_json
from crosstune.training.settings import TrainingSettings

_MARKER = "complete.json"
_BEST = "best.json"
_WEIGHTS, _OPTIMIZER = "model.safetensors", "optimizer.safetensors"
# One would do; the second is for a disk that loses the end of the last.
_N_KEPT = 2


@dataclass(frozen=True, slots=True)
class Passed:
    """What lies behind a checkpoint: the loss of every step, and the seconds they took in all processes."""

    losses: list[float]
    elapsed_s: float


def save_checkpoint(folder: Path, model: Any, optimizer: Mapping[str, Any], passed: Passed) -> None:
    """Write weights, optimizer state and what lies behind them; keep the one before, drop those before it.

    Args:
        folder: Of the training run.
        model: Weights so far.
        optimizer: Its tensors by name.
        passed: Losses and seconds so far.
    """
    from safetensors.torch import save_file, save_model

    checkpoint = folder / f"checkpoint-{len(passed.losses)}"
    shutil.rmtree(checkpoint, ignore_errors=True)
    checkpoint.mkdir(parents=True)
    save_model(model, str(checkpoint / _WEIGHTS))
    save_file({name: tensor.contiguous() for name, tensor in optimizer.items()}, checkpoint / _OPTIMIZER)
    write_json(checkpoint / _MARKER, asdict(passed))
    for old in sorted(folder.glob("checkpoint-*"), key=_step)[:-_N_KEPT]:
        shutil.rmtree(old)


def load_checkpoint(checkpoint: Path, model: Any) -> dict[str, Any]:
    """Read weights into `model`; returns the optimizer's tensors."""
    from safetensors.torch import load_file, load_model

    load_model(model, checkpoint / _WEIGHTS)
    tensors: dict[str, Any] = load_file(checkpoint / _OPTIMIZER)
    return tensors


def passed_until(checkpoint: Path) -> Passed:
    """What lies behind a complete checkpoint."""
    return Passed(**json.loads((checkpoint / _MARKER).read_text()))


def last_complete_checkpoint(folder: Path) -> Path | None:
    """Newest checkpoint that was written to its end, or None. Checkpoints without an end are removed."""
    for path in folder.glob("checkpoint-*"):
        # Left alone they would count as the newest when old checkpoints are deleted.
        if not (path / _MARKER).is_file():
            shutil.rmtree(path)
    return max(folder.glob("checkpoint-*"), key=_step, default=None)


def _step(checkpoint: Path) -> int:
    return int(checkpoint.name.rsplit("-", 1)[1])


class BestModel:
    """Dev scores so far and the weights with the best of them.

    Args:
        folder: Of the training run.
        settings: How often to evaluate, patience, what to keep.
        validate: Model to dev score.
        on_evaluation: Told of each (step, score).
        resume: Checkpoint that training continues from; scores after it are forgotten.
    """

    def __init__(
        self,
        folder: Path,
        settings: TrainingSettings,
        validate: Callable[[Any], float],
        on_evaluation: Callable[[int, float], None],
        resume: Path | None,
    ) -> None:
        self._folder = folder
        self._settings = settings
        self._validate = validate
        self._on_evaluation = on_evaluation
        self.scores: list[tuple[int, float]] = []
        self.kept_step = 0
        self._restore(resume)
        n_evaluations = settings.n_evaluations
        self.evaluation_steps = {round(settings.n_steps * (i + 1) / n_evaluations) for i in range(n_evaluations)}

    def _restore(self, resume: Path | None) -> None:
        path = self._folder / _BEST
        if resume is not None and path.is_file():
            scores = json.loads(path.read_text())["scores"]
            self.scores = [(step, score) for step, score in scores if step <= _step(resume)]
            if self.scores and self._settings.keep == "best":
                self.kept_step = self._best_step()
        self.drop_superseded()

    @property
    def exhausted(self) -> bool:
        """Whether dev has not risen for `patience` evaluations."""
        if self._settings.keep == "last":
            return False
        return sum(step > self.kept_step for step, _ in self.scores) >= self._settings.patience

    def evaluate(self, model: Any, step: int) -> None:
        """Score the model on dev; keep its weights when they are the best so far."""
        score = float(self._validate(model))
        self.scores.append((step, score))
        if self._settings.keep == "best" and self._best_step() == step:
            self._save(model, step)
        write_json(self._folder / _BEST, {"scores": self.scores})
        self._on_evaluation(step, score)

    def path(self, model: Any, step: int) -> Path:
        """Folder of the best weights; evaluates first if training ended before any evaluation."""
        if not self.scores:
            self.evaluate(model, step)
        self.drop_superseded()
        return self._weights(self.kept_step)

    def keep_last(self, model: Any, step: int) -> Path:
        """Keep the weights as they are now, whatever dev says."""
        self._save(model, step)
        self.drop_superseded()
        return self._weights(step)

    def drop_superseded(self) -> None:
        """Remove weights that are not the best any more; call when a checkpoint knows of the better ones."""
        for old in self._folder.glob("best-*"):
            if old != self._weights(self.kept_step):
                shutil.rmtree(old)

    def _best_step(self) -> int:
        """The earliest step with the highest score; a score that is not a number is the lowest of all."""
        return max(self.scores, key=lambda scored: -math.inf if math.isnan(scored[1]) else scored[1])[0]

    def _weights(self, step: int) -> Path:
        return self._folder / f"best-{step}"

    def _save(self, model: Any, step: int) -> None:
        temporary = self._folder / "best.tmp"
        shutil.rmtree(temporary, ignore_errors=True)
        with quiet_transformers():
            model.save_pretrained(temporary)
        shutil.rmtree(self._weights(step), ignore_errors=True)
        os.replace(temporary, self._weights(step))
        self.kept_step = step
