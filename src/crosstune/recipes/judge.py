"""From tuned models to the verdict: choose on dev, open test once, write the run folder. Shared by all recipes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from crosstune.bundle import UNTUNED, ModelBundle, save_bundle
from crosstune.checkpoints import CheckpointKind, load_reranker
from crosstune.evaluation import (
    HEADLINE,
    ceiling,
    evaluate,
    headline_mean,
    verdict,
    verdict_sentence,
)
from crosstune.progress import Progress
from crosstune.recipes.choose import (
    Choice,
    PartScores,
    Tuned,
    TunedReranker,
    choose_on_dev,
    join,
    pipeline_sentence,
    scorer_for,
)
from crosstune.recipes.known import MISTAKEN
from crosstune.recipes.prepare import Prepared, Say, select, top_of
from crosstune.recipes.reading import PartsOfQueries, score_run, score_runs, to_read, with_logits
from crosstune.recipes.retriever import TunedFirstStage
from crosstune.recipes.run_folder import RunFolder, package_versions, write_runs
from crosstune.recipes.settings import TuneSettings
from crosstune.recipes.untuned import untuned_reranker
from crosstune.report import TuneReport, pick_examples, pick_unjudged, write_html, write_json
from crosstune.scoring import TorchScorer, best_device, rerank, with_rest
from crosstune.types import EvalReport, Part, Run, ScoreKind

_KNOWN = Part.KNOWN_QUESTION


@dataclass(frozen=True, slots=True)
class _Judged:
    """Everything that is judged and what it is compared with.

    Attributes:
        runs: Row name -> ranking of the test questions, in table order.
        baselines: Rows that the shipped ranking must beat: the untuned first stage that does best on test itself, and
            the base reranker.
        comparisons: (baseline, row): the shipped row with each baseline, then the tuned parts.
    """

    runs: Mapping[str, Run]
    baselines: tuple[str, ...]
    comparisons: tuple[tuple[str, str], ...]


def judge(
    tuned: Tuned, prepared: Prepared, settings: TuneSettings, folder: RunFolder, progress: Progress, say: Say
) -> TuneReport:
    """Judge what was tuned on dev and test; write model, runs and report.

    Args:
        tuned: The models.
        prepared: Splits and candidates.
        settings: Of the run.
        folder: Where everything goes.
        progress, say: Told of the work.
    """
    stopwatch = prepared.stopwatch
    first_stage = tuned.first_stage
    scores = (None, None) if first_stage is None else (first_stage.cosines, first_stage.known_scores)
    parts = PartScores(prepared.collection, *scores)
    with stopwatch.stage("choose on dev"):
        scorer = None if tuned.reranker is None else scorer_for(tuned.reranker, prepared)
        choice = choose_on_dev(tuned, prepared, scorer, parts, progress)
    say(choice.sentence())
    with stopwatch.stage("judge on test"):
        runs = _Opening(tuned, prepared, choice, scorer, parts, progress).runs()
        baselines = _baselines(runs, prepared)
        judged = _Judged(runs, baselines, _comparisons(runs, baselines, tuned))
        splits = prepared.splits
        evaluation = evaluate(
            list(runs.values()), prepared.collection.qrels, splits.test, splits.groups, judged.comparisons,
            settings.depth, settings.seed,
        )  # fmt: skip
    report = _report(tuned, prepared, choice, evaluation, judged)
    _write(report, runs, tuned, choice, prepared, folder)
    return report


@dataclass(frozen=True, slots=True)
class _Opening:
    """What test is opened with, once."""

    tuned: Tuned
    prepared: Prepared
    choice: Choice
    scorer: TorchScorer | None
    parts: PartScores
    progress: Progress

    def runs(self) -> dict[str, Run]:
        """Row name -> ranking of the test questions, in table order."""
        test, qrels, first_stage = self.prepared.splits.test, self.prepared.collection.qrels, self.tuned.first_stage
        candidates = [select(run, test) for run in self.tuned.candidates(self.prepared)]
        rows = {name: select(run, test) for name, run in self.prepared.first_stages.items()}
        rows |= self._base_row(candidates[0])
        if first_stage is not None:
            rows |= {name: select(run, test) for name, run in first_stage.runs.items()}
        shipped = candidates[0]
        for i, (run, (alone, of_parts)) in enumerate(zip(candidates, self._read(candidates), strict=True)):
            where = f" on {run.name}" if i else ""
            rows |= self._reranked(run, alone, of_parts, where)
            if self.choice.fusion == self.choice.fusions[run.name]:
                shipped = rows[f"tuned composite{where}"]
        rows["shipped"] = replace(shipped, name="shipped")
        for i, run in enumerate(candidates):
            name = f"ceiling on {run.name}" if i else "ceiling"
            rows[name] = ceiling(run, qrels, name)
        return rows

    def _reranked(self, run: Run, alone: Run | None, parts: PartsOfQueries, where: str) -> dict[str, Run]:
        """Row name -> one first stage's candidates by the cross-encoder alone, and by all parts.

        Where known questions change a ranking, the sum of the others is shown, too.
        """
        weights = self.choice.fusions[run.name].weights
        others: dict[Part, float] = {part: weight for part, weight in weights.items() if part is not _KNOWN}
        composite, without = (rerank(run, join(run, parts, of), "", ScoreKind.FUSED) for of in (weights, others))
        reranker = self.tuned.reranker
        by_itself = "base" if reranker is not None and reranker.training is None else f"tuned reranker{where}"
        rows = {} if alone is None else {by_itself: alone}
        if any(_order(composite, query_id) != _order(without, query_id) for query_id in parts):
            rows[f"tuned without known questions{where}"] = without
        rows[f"tuned composite{where}"] = composite
        return {name: replace(row, name=name) for name, row in rows.items()}

    def _read(self, candidates: Sequence[Run]) -> list[tuple[Run | None, PartsOfQueries]]:
        """For each first stage's candidates: the cross-encoder's own ranking, if it gives one, and scores to join.

        One that was not tuned ranks alone over the untuned first stage, as the base.
        """
        test = self.prepared.splits.test
        of_parts = [self.parts(run, test) for run in candidates]
        if self.scorer is None or self.tuned.reranker is None:
            return [(None, found) for found in of_parts]
        ranked = candidates if self.tuned.reranker.training is not None else candidates[:1]
        tops = [top_of(run, test, self.tuned.reranker.reads) for run in ranked]
        fusions = [self.choice.fusions[run.name] for run in candidates]
        uses = [Part.CROSS_ENCODER in fusion.weights for fusion in fusions]
        read = [
            to_read(run, found, fusion.reading)
            for run, found, fusion, used in zip(candidates, of_parts, fusions, uses, strict=True)
            if used
        ]
        logits, _ = score_runs(self.scorer, self.prepared.collection, [*tops, *read], test, self.progress)
        if not all(np.isfinite(scores).all() for of_run in logits for scores in of_run.values()):
            return [(None, found) for found in of_parts]
        alone: list[Run | None] = [
            with_rest(rerank(top, scores, "alone"), run)
            for run, top, scores in zip(ranked, tops, logits[: len(tops)], strict=True)
        ]
        joined = iter(zip(read, logits[len(tops) :], strict=True))
        with_its = [
            with_logits(run, found, *next(joined)) if used else found
            for run, found, used in zip(candidates, of_parts, uses, strict=True)
        ]
        return list(zip(alone + [None] * (len(candidates) - len(tops)), with_its, strict=True))

    def _base_row(self, run: Run) -> dict[str, Run]:
        """The untuned base on the untuned candidates, when the base is a reranker; of one that was tuned."""
        reranker, test = self.tuned.reranker, self.prepared.splits.test
        if reranker is None or reranker.training is None or reranker.base.kind is not CheckpointKind.RERANKER:
            return {}
        model, tokenizer = load_reranker(reranker.base, dropout=0.0)
        scorer = TorchScorer(model.to(best_device()), tokenizer, reranker.max_length, self.choice.precision)
        top = top_of(run, test, reranker.reads)
        logits, _ = score_run(scorer, self.prepared.collection, top, test, self.progress)
        return {"base": with_rest(rerank(top, logits, "base"), run)}


def _order(run: Run, query_id: str) -> list[str]:
    return [candidate.passage_id for candidate in run.candidates.get(query_id, ())]


def _baselines(runs: Mapping[str, Run], prepared: Prepared) -> tuple[str, ...]:
    """What the shipped ranking must beat: the untuned first stage that is best on test itself, and the base."""
    qrels, test = prepared.collection.qrels, prepared.splits.test
    means = {name: headline_mean(runs[name], qrels, test) for name in prepared.first_stages}
    return (max(means, key=lambda name: means[name]), *(("base",) if "base" in runs else ()))


def _comparisons(runs: Mapping[str, Run], baselines: Sequence[str], tuned: Tuned) -> tuple[tuple[str, str], ...]:
    """What is shown beside the verdict's own: each tuned part against the first stage, the reranker against its base.

    Few, since a p-value is corrected for every one of them: no row that ranks as the shipped one does, and rerankers
    over the untuned index alone.
    """
    parts = ["tuned composite", "tuned reranker"]
    if tuned.first_stage is not None:
        parts.insert(0, tuned.first_stage.chosen)
    shown = [name for name in parts if name in runs and runs[name].candidates != runs["shipped"].candidates]
    pairs = [(baseline, "shipped") for baseline in baselines] + [(baselines[0], name) for name in shown]
    return (*pairs, *(("base", name) for name in shown if name == "tuned reranker" and "base" in runs))


def _report(tuned: Tuned, prepared: Prepared, choice: Choice, evaluation: EvalReport, judged: _Judged) -> TuneReport:
    collection, splits = prepared.collection, prepared.splits
    runs, baselines = judged.runs, judged.baselines
    wins, losses = pick_examples(evaluation, runs[baselines[0]], runs["shipped"], collection)
    return TuneReport(
        title=prepared.audit.path.rsplit("/", 1)[-1],
        verdict=verdict(evaluation, "shipped", baselines),
        verdict_sentence=verdict_sentence(evaluation, "shipped", baselines),
        shipped=pipeline_sentence(choice.fusion),
        data=_data_summary(prepared),
        split_counts={"train": len(splits.train), "dev": len(splits.dev), "test": len(splits.test)},
        split_seed=splits.seed,
        evaluation=evaluation,
        health=choice.health,
        timings_s=prepared.stopwatch.seconds | {"total": round(prepared.stopwatch.elapsed_s, 2)},
        settings=tuned.settings,
        calibration=choice.fusion.calibration,
        fusion=choice.fusion,
        dev=choice.dev_scores,
        notes=prepared.notes + tuned.notes + _shipping_notes(tuned, choice, prepared, judged),
        wins=wins,
        losses=losses,
        unjudged=pick_unjudged(runs["shipped"], collection, splits.test),
        versions=package_versions(),
    )


def _shipping_notes(tuned: Tuned, choice: Choice, prepared: Prepared, judged: _Judged) -> tuple[str, ...]:
    depth, untuned = prepared.candidates.depth, prepared.chosen
    notes = [
        f"Shipped is {pipeline_sentence(choice.fusion)}.",
        f"Rows without another word rerank the top {depth} of {untuned}, the untuned first stage, as does the ceiling; "
        f"each first stage is shown with its own top {depth}.",
        *_reading_notes(tuned.reranker, depth),
        f"The first stage to beat is the untuned one that does best on the test questions themselves: "
        f"{judged.baselines[0]}.",
    ]
    if not choice.healthy:
        notes.insert(0, "The cross-encoder is not fit to ship and was not saved.")
    if tuned.spare is not None and not (tuned.reranker is not None and choice.healthy):
        notes.append(
            f"model/ holds the base cross-encoder {tuned.spare.name!r} as it came, for use on its own; it has no part "
            "in what is shipped."
        )
    if tuned.first_stage is not None:
        notes += _index_notes(tuned.first_stage, choice, untuned)
        notes += _known_notes(tuned.first_stage, prepared)
    return tuple(notes)


def _reading_notes(reranker: TunedReranker | None, depth: int) -> list[str]:
    if reranker is None or reranker.reads >= depth:
        return []
    return [
        f"Cross-encoders had time to read {reranker.reads} of the {depth} candidates of each question. Alone, base and "
        "tuned, they read the first ones of the first stage, and the others stand behind; joined with other parts, "
        "those that these rank best."
    ]


def _index_notes(first_stage: TunedFirstStage, choice: Choice, untuned: str) -> list[str]:
    scores = {name: score for name, score in choice.dev_scores.items() if name != "shipped"}
    dev = ", ".join(f"{score:.3f} over the candidates of {name}" for name, score in scores.items())
    notes = [f"Dev {HEADLINE} of the joined scores: {dev}."]
    searched = choice.fusion.first_stage == first_stage.chosen
    if searched and not first_stage.keeps_index:
        notes.append(
            f"Shipped needs the index re-embedded with model/bi-encoder ({first_stage.chosen}). Where the index has to "
            f'stay, row "tuned composite" says what the same models bring as a reranker over {untuned}; --keep-index '
            "tunes for such an index."
        )
    elif searched:
        notes.append(
            "Shipped searches the index as it is: no passage is embedded anew, questions alone are embedded with "
            "model/bi-encoder."
        )
    else:
        notes.append("Shipped works over the index as it is: it need not be re-embedded.")
    return notes


def _known_notes(first_stage: TunedFirstStage, prepared: Prepared) -> list[str]:
    """How many questions were taken for known ones."""
    known, scores, splits = first_stage.known, first_stage.known_scores, prepared.splits
    if known is None or scores is None:
        return []
    taken = {
        name: sum(
            bool(scores(q, [c.passage_id for c in first_stage.candidates.candidates.get(q, ())]).any()) for q in ids
        )
        for name, ids in (("dev", splits.dev), ("test", splits.test))
    }
    return [
        f"A question with a cosine above {known.threshold:.2f} to a train question counts as that one asked again, and "
        f"its answers come first: {taken['dev']:,} of {len(splits.dev):,} dev and {taken['test']:,} of "
        f"{len(splits.test):,} test questions. Of new questions about {MISTAKEN:.0%} are taken for a known one."
    ]


def _data_summary(prepared: Prepared) -> dict[str, str | int | float]:
    audit = prepared.audit
    return {
        "rows read": audit.rows_read,
        "rows used": audit.rows_used,
        "rows merged with an equal one": audit.rows_merged,
        "rows dropped": audit.rows_dropped,
        "questions": len(prepared.collection.queries),
        "passages": len(prepared.collection.passages),
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
    folder: RunFolder,
) -> None:
    write_runs(runs, folder.runs)
    _save_models(report, tuned, choice, prepared, folder)
    write_json(report, folder.path / "report.json")
    write_html(report, folder.path / "report.html")


def _save_models(report: TuneReport, tuned: Tuned, choice: Choice, prepared: Prepared, folder: RunFolder) -> None:
    reranker = tuned.reranker if choice.healthy else None
    spare = None if reranker is not None or tuned.spare is None else untuned_reranker(tuned.spare, prepared)
    saved = reranker or spare
    if saved is None and tuned.first_stage is None:
        return
    base = tuned.base if spare is None or tuned.spare is None else tuned.spare
    bundle = ModelBundle(
        path=folder.model,
        max_length=saved.max_length if saved is not None else 512,
        score_kind=ScoreKind.LOGIT,
        base_model=base.name,
        base_revision=base.revision,
        data_fingerprint=prepared.collection.fingerprint,
        precision=choice.precision,
        calibration=choice.calibration if spare is None else spare.calibration,
        fusion=choice.fusion,
        settings={**tuned.settings, "cross_encoder": _origin(reranker, spare is not None)},
        versions=report.versions,
    )
    save_bundle(
        bundle,
        None if saved is None else (saved.model.cpu(), saved.tokenizer),
        None if tuned.first_stage is None else tuned.first_stage.model.path,
        None if tuned.first_stage is None else tuned.first_stage.known,
    )


def _origin(reranker: TunedReranker | None, spare: bool) -> str:
    """What the cross-encoder in the model folder is, for its manifest."""
    if reranker is not None and reranker.training is not None:
        return "tuned"
    return UNTUNED if spare or reranker is not None else "none"
