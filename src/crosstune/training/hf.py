"""The transformers Trainer with our data order, batches and loss. Imports transformers: only `train` imports this."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import torch
from safetensors.torch import load_model
from torch.utils.data import DataLoader
from transformers import PrinterCallback, Trainer, TrainerCallback, TrainingArguments

from crosstune.checkpoints import quiet_transformers
from crosstune.progress import Advance, Progress
from crosstune.training.batches import EncodedGroup, GroupCollator, LengthGroupedSampler
from crosstune.training.checkpointing import BestModel, Passed, mark_complete, passed_until
from crosstune.training.losses import Loss
from crosstune.training.settings import TrainingSettings


@dataclass(slots=True)
class Outcome:
    """How the loop ended; filled while it runs."""

    losses: list[float] = field(default_factory=list)
    n_steps: int = 0
    stopped: str = "finished"
    resumed_from: int = 0


class _GroupTrainer(Trainer):
    """A Trainer whose batches are groups read in slices."""

    def __init__(self, sampler: LengthGroupedSampler, loss: Loss, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._sampler = sampler
        self._loss = loss
        # Our loss is a mean over groups: the Trainer must divide it under accumulation, not the model.
        self.model_accepts_loss_kwargs = False
        self.step_losses: list[torch.Tensor] = []

    def get_train_dataloader(self) -> Any:
        loader = DataLoader(
            cast(Any, self.train_dataset),
            batch_sampler=self._sampler,
            collate_fn=self.data_collator,
        )
        return self.accelerator.prepare(loader)

    def compute_loss(
        self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> torch.Tensor:
        logits = torch.cat([model(**part).logits[:, 0].float() for part in inputs["slices"]])  # (pairs,)
        loss = self._loss(logits[inputs["position"]], inputs["labels"], inputs["mask"])
        self.step_losses.append(loss.detach())
        return loss

    def floating_point_ops(self, inputs: dict[str, Any]) -> int:
        return 0  # Only ever logged; counting needs one flat input.


class _Loop(TrainerCallback):
    """Evaluates, checkpoints, stops, and reports, step by step."""

    def __init__(
        self,
        best: BestModel,
        settings: TrainingSettings,
        outcome: Outcome,
        advance: Advance,
        elapsed_s: float,
    ) -> None:
        self._best = best
        self._settings = settings
        self._outcome = outcome
        self._advance = advance
        self._saved = time.monotonic()
        self._started = self._saved - elapsed_s
        self.trainer: _GroupTrainer | None = None

    def on_step_end(self, args: Any, state: Any, control: Any, model: Any = None, **kwargs: Any) -> Any:
        self._advance(1)
        self._collect_losses()
        step, now = state.global_step, time.monotonic()
        if any(math.isnan(loss) or math.isinf(loss) for loss in self._outcome.losses[-1:]):
            return self._stop(control, "nan")
        if step in self._best.evaluation_steps:
            self._best.evaluate(model, step)
            control.should_save = True
        if now - self._saved > self._settings.checkpoint_every_s:
            control.should_save = True
        if self._best.exhausted:
            return self._stop(control, "no better dev score")
        if self._settings.deadline_s is not None and now - self._started > self._settings.deadline_s:
            if step not in self._best.evaluation_steps:
                self._best.evaluate(model, step)
            control.should_save = True
            return self._stop(control, "deadline")
        return control

    def _stop(self, control: Any, why: str) -> Any:
        self._outcome.stopped = why
        control.should_training_stop = True
        return control

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._saved = time.monotonic()
        passed = Passed(self._outcome.losses, self._saved - self._started)
        mark_complete(Path(args.output_dir) / f"checkpoint-{state.global_step}", passed)
        self._best.drop_superseded()

    def _collect_losses(self) -> None:
        if self.trainer is not None and self.trainer.step_losses:
            # Accumulated micro-batches make one step: their mean is the step's loss.
            losses = torch.stack(self.trainer.step_losses)
            self._outcome.losses.append(float(losses.mean()))
            self.trainer.step_losses.clear()


def run(
    *,
    model: Any,
    sampler: LengthGroupedSampler,
    collator: GroupCollator,
    groups: Sequence[EncodedGroup],
    loss: Loss,
    best: BestModel,
    settings: TrainingSettings,
    folder: Path,
    resume: Path | None,
    progress: Progress,
) -> Outcome:
    """Run the loop from the start or from `resume`. See `crosstune.training.train` for the parts."""
    passed = Passed([], 0.0) if resume is None else passed_until(resume)
    outcome = Outcome(losses=passed.losses, resumed_from=len(passed.losses))
    if resume is not None and (ended := _ended(best, settings, passed)):
        load_model(model, resume / "model.safetensors")
        outcome.stopped, outcome.n_steps = ended, outcome.resumed_from
        return outcome
    with progress("Training", settings.n_steps) as advance, quiet_transformers():
        advance(outcome.resumed_from)
        loop = _Loop(best, settings, outcome, advance, passed.elapsed_s)
        trainer = _GroupTrainer(
            sampler=sampler,
            loss=loss,
            model=model,
            args=_arguments(settings, folder, next(model.parameters()).device),
            train_dataset=groups,
            data_collator=collator,
            callbacks=[loop],
        )
        trainer.remove_callback(PrinterCallback)
        loop.trainer = trainer
        trainer.train(resume_from_checkpoint=None if resume is None else str(resume))
    outcome.n_steps = trainer.state.global_step
    return outcome


def _ended(best: BestModel, settings: TrainingSettings, passed: Passed) -> str | None:
    """Why the run had ended when it was killed afterwards, or None."""
    if best.exhausted:
        return "no better dev score"
    if settings.deadline_s is not None and passed.elapsed_s > settings.deadline_s:
        return "deadline"
    return None


def _arguments(settings: TrainingSettings, folder: Path, device: torch.device) -> Any:
    return TrainingArguments(
        output_dir=str(folder),
        max_steps=settings.n_steps,
        learning_rate=settings.learning_rate,
        warmup_steps=math.ceil(settings.n_steps * settings.warmup_share),
        weight_decay=settings.weight_decay,
        bf16=settings.precision == "bf16",
        use_cpu=device.type == "cpu",
        optim="adamw_torch_fused",
        seed=settings.seed,
        data_seed=settings.seed,
        save_strategy="no",  # The loop decides; "no" only stops the Trainer from deciding too.
        save_total_limit=2,
        logging_strategy="no",
        logging_nan_inf_filter=False,
        remove_unused_columns=False,
        dataloader_pin_memory=device.type == "cuda",
        disable_tqdm=True,
        report_to="none",
    )
