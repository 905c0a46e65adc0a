"""What dev decides about tuned models: precision, weights of the parts, score scale, and what is shipped."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import spearmanr

from crosstune.checkpoints import Checkpoint, CheckpointKind
from crosstune.errors import ConfigError
from crosstune.evaluation import (
    check_losses,
    check_scores,
    check_truncation,
    fit_calibration,
    fresh_head,
    headline_mean,
)
from crosstune.lexical import LexicalIndex, remembering
from crosstune.progress import Progress, silent
from crosstune.recipes.known import KNOWN_WEIGHT
from crosstune.recipes.prepare import Prepared, Similarity, main_language, select
from crosstune.recipes.reading import Logits, PartsOfQueries, score_run, score_runs, to_read, with_logits
from crosstune.recipes.retriever import TunedFirstStage
from crosstune.scoring import (
    Precision,
    TorchScorer,
    best_device,
    fit_weights,
    fuse,
    rerank,
    standardised,
)
from crosstune.training import TrainingResult
from crosstune.types import Calibration, Collection, Fusion, HealthFinding, Part, Qrels, Reading, Run

UNCALIBRATED = Calibration(temperature=1.0, bias=0.0, threshold=0.5, precision=0.0, recall=0.0, n=0)
# bf16 must order the candidates of a few dev questions as float32 does.
_PARITY_QUERIES = 5
_LEAST_PARITY = 0.99


@dataclass(frozen=True, slots=True)
class TunedReranker:
    """A cross-encoder as a recipe hands it over to be judged: tuned, or as it came where there was no time for that.

    Attributes:
        model, tokenizer: transformers objects, float32.
        base: What it was tuned from.
        max_length: Most tokens of a pair.
        precision: To score with on this machine.
        training: How training went; None for a reranker as it came.
        chance_loss: The loss of a model that has learnt nothing.
        reads: Candidates of each question that there is time to read.
    """

    model: Any
    tokenizer: Any
    base: Checkpoint
    max_length: int
    precision: Precision
    training: TrainingResult | None
    chance_loss: float
    reads: int


@dataclass(frozen=True, slots=True)
class Tuned:
    """What a recipe tuned: a reranker, a first stage, or both.

    Attributes:
        reranker, first_stage: None for what was left as it is.
        settings: Resolved settings of the recipe, for the artefacts.
        notes: What the reader must know about this recipe.
        spare: Reranker that is saved as it came where no tuned one can be; None to save none.
    """

    reranker: TunedReranker | None
    first_stage: TunedFirstStage | None
    settings: Mapping[str, Any]
    notes: tuple[str, ...]
    spare: Checkpoint | None = None

    @property
    def base(self) -> Checkpoint:
        """What was tuned: the cross-encoder's base, else the bi-encoder's.

        Raises:
            ConfigError: Nothing was tuned.
        """
        for tuned in (self.reranker, self.first_stage):
            if tuned is not None:
                return tuned.base
        raise ConfigError("a recipe must tune a reranker, a first stage, or both")

    def candidates(self, prepared: Prepared) -> list[Run]:
        """Candidates of dev and test that are reranked: the untuned first stage's, then the tuned one's."""
        return [prepared.candidates] + ([self.first_stage.candidates] if self.first_stage else [])


@dataclass(frozen=True, slots=True)
class Choice:
    """What dev decided.

    Attributes:
        precision: To score with, "fp32" or "bf16".
        fusions: Name of the first stage -> how scores are joined over its candidates.
        fusion: What is shipped: one of those, or the untuned first stage as it is.
        calibration: The cross-encoder's logit to probability, and the no-answer threshold.
        health: What was found wrong with model or training.
        dev_scores: Name of the first stage -> dev nDCG@10 of the joined scores over its candidates; "shipped" -> that
            of what is shipped.
    """

    precision: str
    fusions: Mapping[str, Fusion]
    fusion: Fusion
    calibration: Calibration
    health: tuple[HealthFinding, ...]
    dev_scores: Mapping[str, float]

    @property
    def healthy(self) -> bool:
        """Whether the cross-encoder may be shipped."""
        return not any(finding.fatal for finding in self.health)

    def sentence(self) -> str:
        """What was chosen, for the user."""
        unfit = next((finding for finding in self.health if finding.fatal), None)
        said = "" if unfit is None else f"The cross-encoder is not fit to ship: {unfit.message} "
        return f"{said}On dev the best ranking is {pipeline_sentence(self.fusion)}."


def pipeline_sentence(fusion: Fusion) -> str:
    """A pipeline in words: what orders whose candidates."""
    if set(fusion.weights) == {Part.FIRST_STAGE}:
        return f"{fusion.first_stage} as it is"
    reading = fusion.reading
    best = "" if reading is None else f" (of the {reading.n} best by the rest, which it reads)"
    names = {
        Part.CROSS_ENCODER: f"the cross-encoder's logit{best}",
        Part.BI_ENCODER: "the tuned bi-encoder's cosine",
        Part.LEXICAL: "shared words (BM25)",
        Part.FIRST_STAGE: f"the score of {fusion.first_stage}",
        Part.KNOWN_QUESTION: "known questions",
    }
    parts = " + ".join(names[part] for part in fusion.weights)
    return f"{parts} over the candidates of {fusion.first_stage}"


class PartScores:
    """Scores of the parts beside the cross-encoder for the candidates of questions.

    With a tuned bi-encoder its cosine takes the place of the first stage's score, so that a ranking does not hang on
    what the first stage calls a score.

    Args:
        collection: Texts.
        cosines: Of the tuned bi-encoder; None when there is none.
        known: What known questions say of passages; None when there are none.
    """

    def __init__(self, collection: Collection, cosines: Similarity | None, known: Similarity | None = None) -> None:
        self._cosines, self._known = cosines, known
        self._collection = collection
        self.language = main_language(collection)
        self._cut = remembering(self.language)

    def __call__(self, run: Run, query_ids: Sequence[str]) -> PartsOfQueries:
        """query_id -> part -> scores (candidates,)."""
        return {query_id: self._of_query(run, query_id) for query_id in query_ids}

    def _of_query(self, run: Run, query_id: str) -> dict[Part, NDArray[np.float64]]:
        candidates = run.candidates.get(query_id, ())
        passage_ids = [candidate.passage_id for candidate in candidates]
        parts: dict[Part, NDArray[np.float64]] = {}
        if self._cosines is not None:
            parts[Part.BI_ENCODER] = self._cosines(query_id, passage_ids)
        if self._known is not None:
            parts[Part.KNOWN_QUESTION] = self._known(query_id, passage_ids)
        parts[Part.LEXICAL] = self._lexical(query_id, passage_ids)
        if self._cosines is None:
            parts[Part.FIRST_STAGE] = standardised(np.array([candidate.score for candidate in candidates]))
        return parts

    def _lexical(self, query_id: str, passage_ids: Sequence[str]) -> NDArray[np.float64]:
        if not passage_ids:
            return np.empty(0)
        texts = [self._collection.passages[passage_id].full_text for passage_id in passage_ids]
        index = LexicalIndex(texts, self.language, self._cut)
        return index.scores(self._collection.queries[query_id].text).astype(np.float64)


def scorer_for(tuned: TunedReranker, prepared: Prepared) -> TorchScorer:
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


def choose_on_dev(
    tuned: Tuned, prepared: Prepared, scorer: TorchScorer | None, parts: PartScores, progress: Progress
) -> Choice:
    """Score dev once and choose everything on it.

    Of the pipelines the one that ranks dev best is shipped, of equals the simplest.
    """
    dev, qrels = prepared.splits.dev, prepared.collection.qrels
    runs = [select(run, dev) for run in tuned.candidates(prepared)]
    of_parts = [parts(run, dev) for run in runs]
    readings: list[Reading | None] = [None] * len(runs)
    health: tuple[HealthFinding, ...] = ()
    calibration = UNCALIBRATED
    if tuned.reranker is not None and scorer is not None:
        n = tuned.reranker.reads
        readings = [_reading(run, found, qrels, n) for run, found in zip(runs, of_parts, strict=True)]
        read = [to_read(run, found, reading) for run, found, reading in zip(runs, of_parts, readings, strict=True)]
        logits, cut = score_runs(scorer, prepared.collection, read, dev, progress)
        health = _health(tuned.reranker, logits[0], cut)
        if not any(finding.fatal for finding in health):
            of_parts = [with_logits(*found) for found in zip(runs, of_parts, read, logits, strict=True)]
            scale, health = calibrated(logits[0], read[0], qrels, health)
            calibration = scale or UNCALIBRATED
    as_it_is = Fusion(prepared.chosen, {Part.FIRST_STAGE: 1.0}, parts.language.code, None)
    scores = [(headline_mean(runs[0], qrels, dev), as_it_is)]
    fusions: dict[str, Fusion] = {}
    dev_scores: dict[str, float] = {}
    for run, found, reading in zip(runs, of_parts, readings, strict=True):
        fusion, fused, health = _fit(run, found, qrels, parts.language.code, reading, health)
        fusions[run.name] = fusion
        dev_scores[run.name] = headline_mean(rerank(run, fused, "dev"), qrels, dev)
        scores.append((dev_scores[run.name], fusion))
    keeps_index = tuned.first_stage is not None and tuned.first_stage.keeps_index
    dev_scores["shipped"], best = _best(scores, keeps_index)
    precision = "fp32" if scorer is None else scorer.precision
    return Choice(precision, fusions, best, calibration, health, dev_scores)


def _best(scores: Sequence[tuple[float, Fusion]], keeps_index: bool) -> tuple[float, Fusion]:
    """The pipeline that ranks dev best.

    Args:
        scores: Of the first stage as it is, of its candidates reranked, of those of the tuned first stage reranked: of
            equals the first.
        keeps_index: Whether the tuned first stage searches the same index. Then its candidates are as simple to have,
            and simpler: a question is embedded once, for search and reranking alike.
    """
    as_it_is, *reranked = scores
    if keeps_index:
        reranked.reverse()
    return max([as_it_is, *reranked], key=lambda scored: scored[0])


def _reading(run: Run, parts: PartsOfQueries, qrels: Qrels, n: int) -> Reading | None:
    """Which candidates are read: the best by the weights that dev gives the other parts alone; None for all."""
    return Reading(n, _weights(run, parts, qrels)) if n < run.depth else None


def _weights(run: Run, parts: PartsOfQueries, qrels: Qrels) -> dict[Part, float]:
    """Fitted to dev; but that of known questions, which a dev split by groups cannot show, is what they are worth."""
    fitted: PartsOfQueries = {
        q: {p: s for p, s in of.items() if p is not Part.KNOWN_QUESTION} for q, of in parts.items()
    }
    weights = fit_weights(fitted, {q: np.array(labels) > 0 for q, labels in _labels(run, qrels, parts).items()})
    known = any(Part.KNOWN_QUESTION in of_query for of_query in parts.values())
    return weights | {Part.KNOWN_QUESTION: KNOWN_WEIGHT} if weights and known else weights


def _labels(run: Run, qrels: Qrels, query_ids: Iterable[str]) -> dict[str, list[int]]:
    """Relevance of each question's candidates, in their order; 0 for unjudged."""
    return {q: [qrels[q].get(c.passage_id, 0) for c in run.candidates.get(q, ())] for q in query_ids}


def _health(tuned: TunedReranker, logits: Logits, cut: float) -> tuple[HealthFinding, ...]:
    health = check_scores({query_id: scores.tolist() for query_id, scores in logits.items()})
    if tuned.training is not None:
        health += check_losses(tuned.training.losses, tuned.chance_loss)
    health += check_truncation(cut)
    if tuned.base.kind is CheckpointKind.ENCODER:
        health += (fresh_head(tuned.base.name),)
    return health


def _fit(
    run: Run,
    parts: PartsOfQueries,
    qrels: Qrels,
    language: str,
    reading: Reading | None,
    health: tuple[HealthFinding, ...],
) -> tuple[Fusion, Logits, tuple[HealthFinding, ...]]:
    """Weights on dev and the joined scores; the first stage's own order where no part helps."""
    weights = _weights(run, parts, qrels)
    if not weights:
        as_it_is = {Part.FIRST_STAGE: 1.0}
        return Fusion(run.name, as_it_is, language, None), join(run, parts, as_it_is), health
    fused = join(run, parts, weights)
    calibration, health = calibrated(fused, run, qrels, health)
    reading = reading if Part.CROSS_ENCODER in weights else None
    return Fusion(run.name, weights, language, calibration, reading), fused, health


def join(run: Run, parts: PartsOfQueries, weights: Mapping[Part, float]) -> Logits:
    """Fused scores of a run's candidates; of the first stage alone, its own, whether it is among the parts or not."""
    if set(weights) == {Part.FIRST_STAGE}:
        return {q: standardised(np.array([c.score for c in run.candidates.get(q, ())])) for q in parts}
    return {q: fuse(of_query, weights) for q, of_query in parts.items()}


def calibrated(
    scores: Logits, run: Run, qrels: Any, health: tuple[HealthFinding, ...]
) -> tuple[Calibration | None, tuple[HealthFinding, ...]]:
    """Score to probability on dev; a finding when there is no scale."""
    try:
        return fit_calibration({q: s.tolist() for q, s in scores.items()}, _labels(run, qrels, scores)), health
    except ConfigError as error:
        finding = HealthFinding("not-calibrated", False, f"Probabilities could not be calibrated: {error}")
        return None, health if finding in health else (*health, finding)
