"""What one training run is told."""

from __future__ import annotations

from dataclasses import dataclass

from crosstune.errors import ConfigError


@dataclass(frozen=True, slots=True)
class TrainingSettings:
    """Settings of one training run.

    Attributes:
        loss: Name of the loss: of a registered one, or "contrastive" for a bi-encoder.
        learning_rate: Peak of a linear schedule with warm-up.
        n_steps: Optimizer steps in all.
        batch_groups: Examples (queries with their candidates) in an optimizer step.
        warmup_share: Share of the steps in which the learning rate rises, 0 to 1.
        weight_decay: AdamW's.
        precision: "fp32" or "bf16" (autocast over float32 weights).
        attention: transformers attention implementation, "eager" or "sdpa".
        n_evaluations: Dev evaluations, evenly spread over the steps; the last step is always one. 0 for none, which
            goes with keeping the last checkpoint.
        patience: Evaluations without a better dev score after which training stops.
        keep: "best" keeps the checkpoint with the best dev score, "last" the last one.
        checkpoint_every_s: Most seconds of work that a kill can cost.
        deadline_s: Training stops after so many seconds whatever the step; None for never.
        seed: Of the order of the data and of every random number in training.
    """

    n_steps: int
    loss: str = "lce"
    learning_rate: float = 2e-5
    batch_groups: int = 8
    warmup_share: float = 0.1
    weight_decay: float = 0.01
    precision: str = "fp32"
    attention: str = "sdpa"
    n_evaluations: int = 5
    patience: int = 3
    keep: str = "best"
    checkpoint_every_s: float = 60.0
    deadline_s: float | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        least = {"n_steps": 1, "batch_groups": 1, "n_evaluations": int(self.keep != "last"), "patience": 1}
        for name, lowest in least.items():
            if getattr(self, name) < lowest:
                raise ConfigError(f"training setting {name} must be at least {lowest}, found {getattr(self, name)}")
        if not self.learning_rate > 0:
            raise ConfigError(f"training setting learning_rate must be above 0, found {self.learning_rate}")
        if self.keep not in ("best", "last"):
            raise ConfigError(f'training setting keep must be "best" or "last", found {self.keep!r}')
