"""Using a saved model on files: rank passages, judge pairs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from crosstune.bundle import load_bundle
from crosstune.data import Finding, LoadSettings, read_documents, read_pairs
from crosstune.progress import Progress, silent
from crosstune.scoring import RankedPassage, Reranker

ENTAILMENT, CONTRADICTION = "entailment", "contradiction"


@dataclass(frozen=True, slots=True)
class RankedFile:
    """A ranking of a file's passages; `ranked_by` is "logit" or "fused"."""

    texts: tuple[str, ...]
    items: tuple[RankedPassage, ...]
    ranked_by: str


@dataclass(frozen=True, slots=True)
class Prediction:
    """One pair's judgment; `row` is the file's data row, from 1."""

    row: int
    probability: float
    logit: float
    prediction: str
    label: int | None


@dataclass(frozen=True, slots=True)
class Predictions:
    """All pairs of a file.

    Attributes:
        predictions: In file order.
        threshold: Probability from which a pair is entailment.
        n_labelled: Pairs with a label in the file.
        accuracy: Share of those predicted right; None without labels.
        dropped: Rows that hold no pair or could not be read, with the reason.
    """

    predictions: tuple[Prediction, ...]
    threshold: float
    n_labelled: int
    accuracy: float | None
    dropped: tuple[Finding, ...]


def rank_file(model: Path, query: str, documents: Path, precision: str | None = None) -> RankedFile:
    """Rank the passages of a file for a question.

    Raises:
        BundleError, DataError: The model or the file cannot be used.
    """
    bundle, found = load_bundle(model), read_documents(documents)
    reranker = Reranker(bundle, precision)
    items = reranker.rank(query, found.texts, found.first_stage_scores)
    fused = found.first_stage_scores is not None and reranker.bundle.fusion is not None
    return RankedFile(found.texts, tuple(items), "fused" if fused else "logit")


def predict_file(
    model: Path,
    pairs: Path,
    settings: LoadSettings | None = None,
    precision: str | None = None,
    progress: Progress = silent,
) -> Predictions:
    """Judge every pair of a file: entailment or contradiction by the model's threshold.

    Raises:
        BundleError, DataError: The model or the file cannot be used.
    """
    bundle, file = load_bundle(model), read_pairs(pairs, settings)
    reranker = Reranker(bundle, precision)
    calibration = reranker.bundle.calibration
    logits = reranker.scorer.score_pairs([(record.query, record.passage) for record in file.records], progress)
    predictions = tuple(
        Prediction(
            row=record.row,
            probability=float(probability),
            logit=float(logit),
            prediction=ENTAILMENT if probability >= calibration.threshold else CONTRADICTION,
            label=record.relevance if file.labelled else None,
        )
        for record, logit, probability in zip(file.records, logits, calibration.probability(logits), strict=True)
    )
    right = [(p.prediction == ENTAILMENT) == (p.label > 0) for p in predictions if p.label is not None]
    accuracy = sum(right) / len(right) if right else None
    return Predictions(predictions, calibration.threshold, len(right), accuracy, file.dropped)
