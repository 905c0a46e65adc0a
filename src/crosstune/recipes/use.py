"""Using a saved model on files: rank passages, judge pairs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from crosstune.bundle import ModelBundle, load_bundle
from crosstune.data import Finding, LoadSettings, read_documents, read_pairs
from crosstune.progress import Progress, silent
from crosstune.scoring import RankedPassage, Reranker
from crosstune.types import Part

ENTAILMENT, CONTRADICTION = "entailment", "contradiction"


@dataclass(frozen=True, slots=True)
class RankedFile:
    """A ranking of a file's passages.

    Attributes:
        texts: The passages, in file order.
        items: The ranking.
        ranked_by: Parts of the score.
        missing: Recommended part -> why it is left out.
    """

    texts: tuple[str, ...]
    items: tuple[RankedPassage, ...]
    ranked_by: tuple[Part, ...]
    missing: Mapping[Part, str]


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


def rank_file(
    model: Path,
    query: str,
    documents: Path,
    precision: str | None = None,
    *,
    runtime: str = "auto",
    cache: Path | None = None,
    deadline_ms: float | None = None,
) -> RankedFile:
    """Rank the passages of a file for a question.

    Args:
        precision, runtime: As of `Reranker`.
        cache, deadline_ms: As of `Reranker.with_cache` and `Reranker.rank`.

    Raises:
        BundleError, ConfigError, DataError: The model, the file, the cache or the deadline cannot be used.
    """
    bundle, found = load_bundle(model), read_documents(documents)
    reranker = _reranker(bundle, precision, runtime, cache)
    items = reranker.rank(query, found.texts, found.first_stage_scores, deadline_ms)
    parts = reranker.parts(found.first_stage_scores is not None)
    return RankedFile(found.texts, tuple(items), parts, reranker.missing)


def predict_file(
    model: Path,
    pairs: Path,
    settings: LoadSettings | None = None,
    precision: str | None = None,
    progress: Progress = silent,
    *,
    runtime: str = "auto",
    cache: Path | None = None,
) -> Predictions:
    """Judge every pair of a file: entailment or contradiction by the model's threshold.

    Args:
        precision, runtime: As of `Reranker`.
        cache: As of `Reranker.with_cache`.

    Raises:
        BundleError, ConfigError, DataError: The model, the cache or the file cannot be used.
    """
    bundle, file = load_bundle(model), read_pairs(pairs, settings)
    reranker = _reranker(bundle, precision, runtime, cache)
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


def _reranker(bundle: ModelBundle, precision: str | None, runtime: str, cache: Path | None) -> Reranker:
    reranker = Reranker(bundle, precision, runtime)
    return reranker if cache is None else reranker.with_cache(cache)
