"""The article's evaluator. It imports sentence-transformers: import this module only when it is needed."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from crosstune.errors import ConfigError
from crosstune.extras import require

if TYPE_CHECKING:
    from sentence_transformers import CrossEncoder


def _evaluator_base() -> Any:
    """The library's base class of evaluators, which version 6 has moved."""
    require("sentence_transformers", extra="train", what="MSEEvaluator")
    try:
        return import_module("sentence_transformers.base.evaluation").SentenceEvaluator
    except ModuleNotFoundError:
        return import_module("sentence_transformers.evaluation").SentenceEvaluator


_SentenceEvaluator: Any = _evaluator_base()


class LabelledPair(Protocol):
    """A question, an answer, and whether it is one; `NLIPair` is the usual one."""

    @property
    def query(self) -> str:
        """The question."""
        ...

    @property
    def passage(self) -> str:
        """The answer."""
        ...

    @property
    def label(self) -> float:
        """The target, 0 to 1."""
        ...


class MSEEvaluator(_SentenceEvaluator):  # type: ignore[misc]
    """Mean squared error between a cross-encoder's probabilities and the labels of pairs.

    Works as `evaluator` of a CrossEncoderTrainer and by a plain call. The error is a mean over pairs; the
    article averages over batches, which weighs the pairs of a short last batch more.

    Lower is better, and `greater_is_better` says so: the library assumes the opposite of an evaluator that
    does not say, and would keep the worst checkpoint. With `load_best_model_at_end` the training arguments
    must say it, too: `metric_for_best_model="eval_evaluator", greater_is_better=False`.

    What it cannot tell: whether ranking got better. On the training pairs it falls to 0 once a model knows
    them by heart.

    Args:
        pairs: At least one.
        batch_size: Pairs in a forward pass; changes nothing but speed.
        name: Part of the name of the CSV file.

    Raises:
        ConfigError: `pairs` is empty.
    """

    def __init__(self, pairs: Sequence[LabelledPair], batch_size: int = 16, name: str = "") -> None:
        super().__init__()
        if not pairs:
            raise ConfigError("MSEEvaluator needs at least one pair, found none")
        self.greater_is_better = False
        self.primary_metric = "evaluator"  # What the library calls the value of an evaluator that returns a number.
        self.name = name
        self.batch_size = batch_size
        self.csv_file = f"MSEEvaluator{'_' + name if name else ''}_results.csv"
        self._texts = [(pair.query, pair.passage) for pair in pairs]
        self._labels = np.array([pair.label for pair in pairs], np.float64)

    def __call__(
        self, model: CrossEncoder, output_path: str | Path | None = None, epoch: float = -1, steps: int = -1
    ) -> float:
        """Score the pairs.

        Args:
            model: A CrossEncoder with one logit.
            output_path: Folder whose CSV file gets a line with epoch, steps and the error.
            epoch, steps: For that line.

        Raises:
            ConfigError: The model gives more than one logit.
        """
        if model.num_labels != 1:
            raise ConfigError(f"MSEEvaluator needs a model with one logit, found {model.num_labels}")
        error = mean_squared_error(self._logits(model), self._labels)
        if output_path is not None:
            self._write(Path(output_path), epoch, steps, error)
        return error

    def _logits(self, model: CrossEncoder) -> NDArray[np.float64]:
        import torch

        # Named, since a model's own activation may be the sigmoid already (the library's default) or not.
        logits = model.predict(
            self._texts,
            batch_size=self.batch_size,
            activation_fn=torch.nn.Identity(),
            convert_to_tensor=True,
            show_progress_bar=False,
        )
        return np.asarray(logits.double().cpu().numpy())  # (pairs,)

    def _write(self, folder: Path, epoch: float, steps: int, error: float) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        is_new = not (folder / self.csv_file).is_file()
        with (folder / self.csv_file).open("a", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            if is_new:
                writer.writerow(["epoch", "steps", "MSE"])
            writer.writerow([epoch, steps, error])


def mean_squared_error(logits: NDArray[np.float64], labels: NDArray[np.float64]) -> float:
    """Mean of (sigmoid(logit) - label) squared, in float64."""
    probabilities = np.exp(-np.logaddexp(0.0, -np.asarray(logits, np.float64)))  # sigmoid without overflow
    return float(np.mean((probabilities - labels) ** 2))
