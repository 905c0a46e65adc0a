"""TrainingGroups to a tuned model."""

from __future__ import annotations

from crosstune.training.batches import EncodedGroup
from crosstune.training.contrastive import ContrastiveExample, train_bi_encoder
from crosstune.training.losses import LOSSES, make_loss
from crosstune.training.plan import (
    FirstStagePlan,
    Plan,
    ReadingPlan,
    Speed,
    Workload,
    plan,
    plan_first_stage,
    plan_reading,
)
from crosstune.training.settings import TrainingSettings
from crosstune.training.throughput import Throughput, measure_training
from crosstune.training.trainer import TrainingResult, load_trained, train

__all__ = [
    "LOSSES",
    "ContrastiveExample",
    "EncodedGroup",
    "FirstStagePlan",
    "Plan",
    "ReadingPlan",
    "Speed",
    "Throughput",
    "TrainingResult",
    "TrainingSettings",
    "Workload",
    "load_trained",
    "make_loss",
    "measure_training",
    "plan",
    "plan_first_stage",
    "plan_reading",
    "train",
    "train_bi_encoder",
]
