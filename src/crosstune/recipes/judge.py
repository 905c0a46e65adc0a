"""From a tuned model to the verdict: choose on dev, open test once, write the run folder. Shared by all recipes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from crosstune.bundle import ModelBundle, save_bundle
from crosstune.checkpoints import CheckpointKind, load_reranker
from crosstune.data import write_run
from crosstune.evaluation import (
    HEADLINE,
    ceiling,
    evaluate,
    per_query,
    verdict,
    verdict_sentence,
)
from crosstune.progress import Progress
from crosstune.recipes.choose import Choice, Logits, Tuned, choose_on_dev, score_run, scorer_for, select
from crosstune.recipes.prepare import Prepared, Say
from crosstune.recipes.run_folder import RunFolder, package_versions
from crosstune.recipes.settings import TuneSettings
from crosstune.report import TuneReport, pick_examples, pick_unjudged, write_html, write_json
from crosstune.scoring import TorchScorer, best_device, rerank
from crosstune.types import (
    EvalReport,
    Run,
    ScoreKind,
)


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
    splits, stopwatch = prepared.splits, prepared.stopwatch
    with stopwatch.stage("choose on dev"):
        scorer = scorer_for(tuned, prepared)
        choice = choose_on_dev(tuned, prepared, scorer, progress)
    say(choice.sentence())
    with stopwatch.stage("judge on test"):
        test_logits, _ = score_run(scorer, prepared.collection, prepared.candidates, splits.test, progress)
        base_logits = _score_base(tuned, choice, prepared, progress)
        runs = _test_runs(test_logits, base_logits, prepared, choice)
        baselines = _baselines(runs, prepared)
        evaluation = _evaluate(runs, baselines, prepared, settings)
    report = _report(tuned, prepared, settings, choice, evaluation, runs, baselines)
    _write(report, runs, tuned, choice, prepared, settings, folder)
    return report


def _score_base(tuned: Tuned, choice: Choice, prepared: Prepared, progress: Progress) -> Logits | None:
    """The untuned base on the same candidates, when the base is a reranker."""
    if tuned.base.kind is not CheckpointKind.RERANKER:
        return None
    model, tokenizer = load_reranker(tuned.base, dropout=0.0)
    scorer = TorchScorer(model.to(best_device()), tokenizer, tuned.max_length, choice.precision)
    return score_run(scorer, prepared.collection, prepared.candidates, prepared.splits.test, progress)[0]


def _test_runs(logits: Logits, base_logits: Logits | None, prepared: Prepared, choice: Choice) -> dict[str, Run]:
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
    choice: Choice,
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


def _shipping_notes(choice: Choice, prepared: Prepared, baselines: Sequence[str]) -> tuple[str, ...]:
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
    choice: Choice,
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
            precision=choice.precision,
            calibration=choice.calibration,
            fusion=fusion,
            settings=tuned.settings,
            versions=report.versions,
        )
        save_bundle(bundle, tuned.model.cpu(), tuned.tokenizer)
    write_json(report, folder.path / "report.json")
    write_html(report, folder.path / "report.html")
