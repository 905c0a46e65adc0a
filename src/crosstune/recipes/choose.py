"""What dev decides about a tuned model: precision, fusion weight, score scale, and whether it is fit to ship."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import spearmanr

from crosstune.checkpoints import Checkpoint, CheckpointKind
from crosstune.errors import ConfigError
from crosstune.evaluation import (
    HEADLINE,
    check_losses,
    check_scores,
    check_truncation,
    fit_calibration,
    fresh_head,
    per_query,
)
from crosstune.progress import Progress, silent
from crosstune.recipes.prepare import Prepared
from crosstune.scoring import BatchScorer, Precision, TorchScorer, best_device, choose_weight, rerank
from crosstune.training import TrainingResult
from crosstune.types import Calibration, Collection, Fusion, HealthFinding, Run

Logits = dict[str, NDArray[np.float64]]

_UNCALIBRATED = Calibration(temperature=1.0, bias=0.0, threshold=0.5, precision=0.0, recall=0.0, n=0)
# bf16 must order the candidates of a few dev questions as float32 does.
_PARITY_QUERIES = 5
_LEAST_PARITY = 0.99


@dataclass(frozen=True, slots=True)
class Tuned:
    """A model as a recipe hands it over to be judged.

    Attributes:
        model, tokenizer: transformers objects, float32.
        base: What it was tuned from.
        max_length: Most tokens of a pair.
        precision: To score with on this machine.
        training: How training went.
        chance_loss: The loss of a model that has learnt nothing.
        settings: Resolved settings of the recipe, for the artefacts.
        notes: What the reader must know about this recipe.
    """

    model: Any
    tokenizer: Any
    base: Checkpoint
    max_length: int
    precision: Precision
    training: TrainingResult
    chance_loss: float
    settings: Mapping[str, Any]
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Choice:
    """What dev decided.

    Attributes:
        precision: To score with, "fp32" or "bf16".
        fusion: Weight of the reranker beside the first stage.
        calibration: Logit to probability, and the no-answer threshold.
        health: What was found wrong with model or training.
    """

    precision: str
    fusion: Fusion
    calibration: Calibration
    health: tuple[HealthFinding, ...]

    @property
    def healthy(self) -> bool:
        """Whether the model may be shipped."""
        return not any(finding.fatal for finding in self.health)

    def sentence(self) -> str:
        """What was chosen, for the user."""
        if not self.healthy:
            fatal = next(finding for finding in self.health if finding.fatal)
            return f"The tuned model is not fit to ship: {fatal.message}"
        weight, first_stage = self.fusion.weight, self.fusion.first_stage
        return f"On dev the best ranking takes {weight:.0%} of the reranker and {1 - weight:.0%} of {first_stage}."


def scorer_for(tuned: Tuned, prepared: Prepared) -> TorchScorer:
    """The tuned model's scorer, in the measured precision when that ranks dev candidates like float32."""
    model, dev = tuned.model.to(best_device()), prepared.splits.dev[:_PARITY_QUERIES]
    reference = TorchScorer(model, tuned.tokenizer, tuned.max_length, "fp32")
    if tuned.precision == "fp32":
        return reference
    fast = TorchScorer(model, tuned.tokenizer, tuned.max_length, tuned.precision)
    expected, found = (
        score_run(scorer, prepared.collection, prepared.candidates, dev, silent)[0] for scorer in (reference, fast)
    )
    agreement = [spearmanr(expected[q], found[q]).statistic for q in dev if len(expected[q]) > 2]
    # NaN, of a constant or broken model, counts as agreement: health will name it, in either precision.
    return reference if any(value < _LEAST_PARITY for value in agreement) else fast


def score_run(
    scorer: BatchScorer, collection: Collection, run: Run, query_ids: Sequence[str], progress: Progress
) -> tuple[Logits, float]:
    """Logits of a run's candidates, in their order, and the share of pairs that were cut."""
    texts = {
        query_id: [collection.passages[c.passage_id].full_text for c in run.candidates.get(query_id, ())]
        for query_id in query_ids
    }
    pairs = [(collection.queries[query_id].text, text) for query_id in query_ids for text in texts[query_id]]
    scored = scorer.score(pairs, progress)
    ends = np.cumsum([len(texts[query_id]) for query_id in query_ids])[:-1]
    return dict(zip(query_ids, np.split(scored.logits, ends), strict=True)), scored.truncated_share


def select(run: Run, query_ids: Sequence[str]) -> Run:
    """The part of a run that answers these questions."""
    return replace(run, candidates={q: run.candidates[q] for q in query_ids if q in run.candidates})


def choose_on_dev(tuned: Tuned, prepared: Prepared, scorer: TorchScorer, progress: Progress) -> Choice:
    """Score dev once and choose everything on it."""
    dev, qrels = prepared.splits.dev, prepared.collection.qrels
    logits, cut = score_run(scorer, prepared.collection, prepared.candidates, dev, progress)
    candidates = select(prepared.candidates, dev)
    training = tuned.training
    health = check_scores({query_id: scores.tolist() for query_id, scores in logits.items()})
    health += check_losses(training.losses, tuned.chance_loss) + check_truncation(cut)
    if tuned.base.kind is CheckpointKind.ENCODER:
        health += (fresh_head(tuned.base.name),)
    if any(finding.fatal for finding in health):
        return Choice(scorer.precision, Fusion(prepared.chosen, 0.0), _UNCALIBRATED, health)

    def on_dev(weight: float) -> float:
        run = rerank(candidates, logits, "dev", weight)
        return float(np.mean(per_query(run, qrels, dev, (HEADLINE,))[HEADLINE]))

    weight, _ = choose_weight(on_dev)
    labels = {
        query_id: [qrels[query_id].get(c.passage_id, 0) for c in candidates.candidates[query_id]] for query_id in logits
    }
    try:
        calibration = fit_calibration({q: scores.tolist() for q, scores in logits.items()}, labels)
    except ConfigError as error:
        calibration = _UNCALIBRATED
        health += (HealthFinding("not-calibrated", False, f"Probabilities could not be calibrated: {error}"),)
    return Choice(scorer.precision, Fusion(prepared.chosen, weight), calibration, health)
