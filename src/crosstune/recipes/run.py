"""The story that all tuning recipes share: read, split, rank candidates, train in the recipe's way, judge."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from crosstune.checkpoints import Checkpoint, CheckpointKind, load_reranker, resolve
from crosstune.progress import Progress
from crosstune.recipes.choose import Tuned
from crosstune.recipes.finished import FinishedRun, read_finished
from crosstune.recipes.judge import judge
from crosstune.recipes.live import onto_index, open_live, write_missing
from crosstune.recipes.prepare import Prepared, Say, Stopwatch, first_stages, read, split_questions, write_split
from crosstune.recipes.run_folder import RunFolder
from crosstune.recipes.settings import TuneSettings
from crosstune.scoring import best_device

Train = Callable[[Prepared, Checkpoint, RunFolder], Tuned]


def run_recipe(
    train: Train,
    path: str | Path,
    out: str | Path,
    settings: TuneSettings,
    resolved: Mapping[str, Any],
    *,
    overwrite: bool,
    progress: Progress,
    say: Say,
) -> FinishedRun:
    """Run a recipe from the user's file to the verdict, or continue it, or read it when it is complete.

    Args:
        train: How this recipe trains.
        path: The user's data.
        out: The run folder.
        settings: How to read, split and judge.
        resolved: All that decides the result, the recipe's name included: the run's identity.
        overwrite: Replace a run that the folder holds.
        progress, say: Told of the work.
    """
    stopwatch = Stopwatch()
    base = resolve(settings.base, settings.revision)
    live = open_live(settings)
    if live is not None:
        settings = replace(settings, embedder=live.store.spec.embedder_source)
    with stopwatch.stage("read"):
        loaded = read(Path(path), settings, progress, say)
        mapped = None if live is None else onto_index(loaded, live, progress)
        notes: tuple[str, ...] = ()
        if live is not None and mapped is not None:
            loaded, notes = mapped.loaded, (live.sentence(), mapped.sentence)
        for note in notes:
            say(note)
        splits = split_questions(loaded, settings, say)
    identity = {
        "recipe": resolved["recipe"],
        "settings": resolved,
        "base_revision": base.revision,
        "data_fingerprint": loaded.collection.fingerprint,
    }
    folder = RunFolder(Path(out), identity, overwrite)
    if folder.complete:
        say(f"{folder.path} holds this run, complete; pass --overwrite to run it again.")
        return read_finished(folder)
    if mapped is not None and mapped.missing:
        write_missing(mapped.missing, folder.unmapped)
    prepared = first_stages(loaded, splits, settings, folder, stopwatch, progress, say, live)
    prepared = replace(prepared, notes=(*notes, *prepared.notes))
    write_split(prepared, folder)
    tuned = train(prepared, base, folder)
    report = judge(tuned, prepared, settings, folder, progress, say)
    folder.finish(verdict=report.verdict.value)
    return read_finished(folder)


def load_base(base: Checkpoint, seed: int, say: Say) -> tuple[Any, Any]:
    """Model, on the best device and without dropout, and tokenizer; a fresh head is said."""
    model, tokenizer = load_reranker(base, dropout=0.0, seed=seed)
    if base.kind is CheckpointKind.ENCODER:
        say(f"Base {base.name!r} is a bare encoder: a new ranking head is added and learnt from your data alone.")
    return model.to(best_device()), tokenizer
