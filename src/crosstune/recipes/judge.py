"""From a tuned model to the verdict: choose on dev, open test once, write the run folder. Shared by all recipes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crosstune.bundle import ModelBundle, save_bundle
from crosstune.checkpoints import Checkpoint, CheckpointKind, load_reranker
from crosstune.data import write_run
from crosstune.errors import ConfigError
from crosstune.evaluation import (
    HEADLINE,
    best_row,
    ceiling,
    check_losses,
    check_scores,
    check_truncation,
    evaluate,
    fit_calibration,
    fresh_head,
    per_query,
    verdict,
    verdict_sentence,
)
from crosstune.progress import Progress
from crosstune.recipes.prepare import Prepared, Say
from crosstune.recipes.run_folder import RunFolder, package_versions
from crosstune.recipes.settings import TuneSettings
from crosstune.report import TuneReport, pick_examples, pick_unjudged, to_json, write_html, write_json
from crosstune.scoring import Precision, TorchScorer, best_device, choose_weight, rerank
from crosstune.training import TrainingResult
from crosstune.types import (
    Calibration,
    Collection,
    EvalReport,
    Fusion,
    HealthFinding,
    Run,
    ScoreKind,
    Verdict,
)

Logits = dict[str, NDArray[np.float64]]

_UNCALIBRATED = Calibration(temperature=1.0, bias=0.0, threshold=0.5, precision=0.0, recall=0.0, n=0)


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
class _Choice:
    """What dev decided."""

    fusion: Fusion
    calibration: Calibration
    health: tuple[HealthFinding, ...]

    @property
    def healthy(self) -> bool:
        return not any(finding.fatal for finding in self.health)


def judge(
    tuned: Tuned, prepared: Prepared, settings: TuneSettings, folder: RunFolder, progress: Progress, say: Say
) -> TuneReport:
    """Judge a tuned model on dev and test; write model, runs and report.

    Args:
        tuned: The model.
        prepared: Splits and candidates.
        settings: Of the run.
        folder: Where everything goes.
        progress, say: Told of the work.
    """
    scorer = TorchScorer(tuned.model.to(best_device()), tuned.tokenizer, tuned.max_length, tuned.precision)
    splits, stopwatch = prepared.splits, prepared.stopwatch
    with stopwatch.stage("choose on dev"):
        dev_logits, dev_cut = score_run(scorer, prepared.collection, prepared.candidates, splits.dev, progress)
        choice = _choose_on_dev(dev_logits, dev_cut, prepared, tuned)
    say(_choice_sentence(choice))
    with stopwatch.stage("judge on test"):
        test_logits, _ = score_run(scorer, prepared.collection, prepared.candidates, splits.test, progress)
        base_logits = _score_base(tuned, prepared, progress)
        runs = _test_runs(test_logits, base_logits, prepared, choice)
        baselines = _baselines(runs, prepared)
        evaluation = _evaluate(runs, baselines, prepared, settings)
    report = _report(tuned, prepared, settings, choice, evaluation, runs, baselines)
    _write(report, runs, tuned, choice, prepared, settings, folder)
    return report


def score_run(
    scorer: TorchScorer, collection: Collection, run: Run, query_ids: Sequence[str], progress: Progress
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


def _choose_on_dev(logits: Logits, cut: float, prepared: Prepared, tuned: Tuned) -> _Choice:
    dev, qrels = prepared.splits.dev, prepared.collection.qrels
    candidates = select(prepared.candidates, dev)
    training = tuned.training
    health = check_scores({query_id: scores.tolist() for query_id, scores in logits.items()})
    health += check_losses(training.losses, tuned.chance_loss) + check_truncation(cut)
    if tuned.base.kind is CheckpointKind.ENCODER:
        health += (fresh_head(tuned.base.name),)
    if any(finding.fatal for finding in health):
        return _Choice(Fusion(prepared.chosen, 0.0), _UNCALIBRATED, health)

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
    return _Choice(Fusion(prepared.chosen, weight), calibration, health)


def _choice_sentence(choice: _Choice) -> str:
    if not choice.healthy:
        fatal = next(finding for finding in choice.health if finding.fatal)
        return f"The tuned model is not fit to ship: {fatal.message}"
    weight, first_stage = choice.fusion.weight, choice.fusion.first_stage
    return f"On dev the best ranking takes {weight:.0%} of the reranker and {1 - weight:.0%} of {first_stage}."


def _score_base(tuned: Tuned, prepared: Prepared, progress: Progress) -> Logits | None:
    """The untuned base on the same candidates, when the base is a reranker."""
    if tuned.base.kind is not CheckpointKind.RERANKER:
        return None
    model, tokenizer = load_reranker(tuned.base, dropout=0.0)
    scorer = TorchScorer(model.to(best_device()), tokenizer, tuned.max_length, tuned.precision)
    return score_run(scorer, prepared.collection, prepared.candidates, prepared.splits.test, progress)[0]


def _test_runs(logits: Logits, base_logits: Logits | None, prepared: Prepared, choice: _Choice) -> dict[str, Run]:
    test = prepared.splits.test
    candidates = select(prepared.candidates, test)
    runs = {name: select(run, test) for name, run in prepared.first_stages.items()}
    if base_logits is not None:
        runs["base"] = rerank(candidates, base_logits, "base")
    fusion = choice.fusion
    if all(np.isfinite(scores).all() for scores in logits.values()):
        runs["tuned"] = rerank(candidates, logits, "tuned")
        fused = f"tuned+{fusion.first_stage}"
        runs[fused] = rerank(candidates, logits, fused, fusion.weight)
        shipped = runs[fused]
    if not choice.healthy or fusion.weight == 0:
        shipped = candidates
    elif fusion.weight == 1:
        shipped = runs["tuned"]
    runs["shipped"] = replace(shipped, name="shipped")
    runs["ceiling"] = ceiling(candidates, prepared.collection.qrels, "ceiling")
    return runs


def _baselines(runs: Mapping[str, Run], prepared: Prepared) -> list[str]:
    """What the shipped ranking must beat: the first stage that does best on test itself, and the base reranker."""
    qrels, test = prepared.collection.qrels, prepared.splits.test
    means = {
        name: float(np.mean(per_query(runs[name], qrels, test, (HEADLINE,))[HEADLINE]))
        for name in prepared.first_stages
    }
    return [max(means, key=lambda name: means[name])] + (["base"] if "base" in runs else [])


def _evaluate(
    runs: Mapping[str, Run], baselines: Sequence[str], prepared: Prepared, settings: TuneSettings
) -> EvalReport:
    candidates = ("shipped", "tuned") if "tuned" in runs else ("shipped",)
    pairs = [(baseline, candidate) for candidate in candidates for baseline in baselines]
    splits = prepared.splits
    return evaluate(
        list(runs.values()),
        prepared.collection.qrels,
        splits.test,
        splits.groups,
        pairs,
        settings.depth,
        settings.seed,
    )


def _report(
    tuned: Tuned,
    prepared: Prepared,
    settings: TuneSettings,
    choice: _Choice,
    evaluation: EvalReport,
    runs: Mapping[str, Run],
    baselines: Sequence[str],
) -> TuneReport:
    collection, splits = prepared.collection, prepared.splits
    wins, losses = pick_examples(evaluation, runs[baselines[0]], runs["shipped"], collection)
    return TuneReport(
        title=prepared.audit.path.rsplit("/", 1)[-1],
        verdict=verdict(evaluation, "shipped", baselines),
        verdict_sentence=verdict_sentence(evaluation, "shipped", baselines),
        data=_data_summary(prepared),
        split_counts={"train": len(splits.train), "dev": len(splits.dev), "test": len(splits.test)},
        split_seed=splits.seed,
        evaluation=evaluation,
        health=choice.health,
        timings_s=prepared.stopwatch.seconds | {"total": round(prepared.stopwatch.elapsed_s, 2)},
        settings=tuned.settings,
        calibration=choice.calibration,
        fusion=choice.fusion,
        notes=prepared.notes + tuned.notes + _shipping_notes(choice, prepared, baselines),
        wins=wins,
        losses=losses,
        unjudged=pick_unjudged(runs["shipped"], collection, splits.test),
        versions=package_versions(),
    )


def _shipping_notes(choice: _Choice, prepared: Prepared, baselines: Sequence[str]) -> tuple[str, ...]:
    fusion = choice.fusion
    shipped = {0.0: f"{fusion.first_stage} as it is", 1.0: "the tuned reranker alone"}.get(
        fusion.weight,
        f"the tuned reranker fused with {fusion.first_stage} (weight {fusion.weight}, chosen on dev)",
    )
    notes = [
        f"Shipped is {shipped}.",
        f"All rerankers and the ceiling reorder the same candidates, the top {prepared.candidates.depth} of "
        f"{fusion.first_stage}; each first stage is shown with its own top {prepared.candidates.depth}.",
        f"The first stage to beat is the one that does best on the test questions themselves: {baselines[0]}.",
    ]
    if not choice.healthy:
        notes.insert(0, "The tuned model is not fit to ship and was not saved; shipped is the first stage as it is.")
    return tuple(notes)


def _data_summary(prepared: Prepared) -> dict[str, str | int | float]:
    audit = prepared.audit
    return {
        "rows read": audit.rows_read,
        "rows used": audit.rows_used,
        "rows merged with an equal one": audit.rows_merged,
        "rows dropped": audit.rows_dropped,
        "questions": len(prepared.collection.queries),
        "different answers": len(prepared.collection.passages),
        "independent groups of questions": len(set(prepared.splits.groups.values())),
        "languages": ", ".join(audit.languages),
        "fingerprint": prepared.collection.fingerprint,
    }


def _write(
    report: TuneReport,
    runs: Mapping[str, Run],
    tuned: Tuned,
    choice: _Choice,
    prepared: Prepared,
    settings: TuneSettings,
    folder: RunFolder,
) -> None:
    folder.runs.mkdir(exist_ok=True)
    for name, run in runs.items():
        write_run(run, folder.runs / f"{name.replace('+', '-')}.trec")
    if choice.healthy:
        fusion = choice.fusion if choice.fusion.weight < 1 else None
        bundle = ModelBundle(
            path=folder.model,
            max_length=tuned.max_length,
            score_kind=ScoreKind.LOGIT,
            base_model=tuned.base.name,
            base_revision=tuned.base.revision,
            data_fingerprint=prepared.collection.fingerprint,
            precision=tuned.precision,
            calibration=choice.calibration,
            fusion=fusion,
            settings=tuned.settings,
            versions=report.versions,
        )
        save_bundle(bundle, tuned.model.cpu(), tuned.tokenizer)
    write_json(report, folder.path / "report.json")
    write_html(report, folder.path / "report.html")


__all__ = ["Tuned", "Verdict", "best_row", "judge", "score_run", "select", "to_json"]
