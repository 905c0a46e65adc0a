"""How long a model takes on this machine, for so many candidates of so many tokens, with its quality beside it."""

from __future__ import annotations

import json
import os
import platform
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from crosstune.artefacts import read_artefacts
from crosstune.errors import ConfigError
from crosstune.progress import Progress, silent
from crosstune.recipes.bench_pairs import BenchPairs
from crosstune.recipes.run_folder import package_versions
from crosstune.report import LatencyCell, LatencyReport, read_evaluation
from crosstune.scoring import Reranker, n_processors, processor_name
from crosstune.types import Estimate

# Fewer say nothing of a 95th percentile.
_MIN_REPEATS = 3
_ROWS = ("tuned reranker", "tuned composite", "shipped")
_MEASURE = "nDCG@10"

Clock = Callable[[], float]
Shape = tuple[int, int]


@dataclass(frozen=True, slots=True)
class BenchSettings:
    """What to measure.

    Attributes:
        candidates: Passages of a ranking.
        tokens: Of a pair, special tokens included.
        repeat: Rankings timed for each cell, after one that is not; fewer when the time is short, at least 3.
        budget_s: For all cells together.
        data: The user's texts; None for words of the model's vocabulary.

    Raises:
        ConfigError: A number below 1, or none at all.
    """

    candidates: tuple[int, ...] = (10, 50, 100, 200)
    tokens: tuple[int, ...] = (64, 128, 256, 512)
    repeat: int = 7
    budget_s: float = 120.0
    data: Path | None = None

    def __post_init__(self) -> None:
        for name, numbers in (("candidates", self.candidates), ("tokens", self.tokens), ("repeat", (self.repeat,))):
            if not numbers or min(numbers) < 1:
                raise ConfigError(
                    f"{name} must be whole numbers above 0, found {', '.join(map(str, numbers)) or 'none'}"
                )
        if not self.budget_s > 0:
            raise ConfigError(f"the budget must be above 0 seconds, found {self.budget_s:g}")


def bench(
    model: str | Path,
    settings: BenchSettings | None = None,
    *,
    runtime: str = "auto",
    precision: str | None = None,
    progress: Progress = silent,
    clock: Clock = time.perf_counter,
) -> LatencyReport:
    """Time whole rankings (tokenising included) on this machine.

    Args:
        model: Run folder or model folder.
        settings: What to measure.
        runtime, precision: As of `Reranker`.
        progress: Told of the work.
        clock: In seconds.

    Raises:
        BundleError, ConfigError, DataError: The model, an option or the data cannot be used.
    """
    settings = settings or BenchSettings()
    reranker = Reranker.load(model, runtime, precision)
    limit = reranker.bundle.max_length
    lengths = sorted({tokens for tokens in settings.tokens if tokens <= limit})
    left_out = sorted(set(settings.tokens) - set(lengths))
    if not lengths:
        raise ConfigError(f"this model reads at most {limit} tokens of a pair; give at least one --tokens up to that")
    pairs, counts = BenchPairs(reranker.scorer.encoder, settings.data), sorted(set(settings.candidates))
    texts = {tokens: pairs.texts(counts[-1], tokens) for tokens in lengths}

    def rank(shape: Shape) -> None:
        candidates, tokens = shape
        query, passages = texts[tokens]
        reranker.rank(query, passages[:candidates])

    shapes = [(candidates, tokens) for tokens in lengths for candidates in counts]
    cells = measure_cells(rank, shapes, settings.repeat, settings.budget_s, progress, clock)
    quality, sentence = _quality(Path(model))
    return LatencyReport(
        model=str(model),
        runtime=reranker.scorer.runtime,
        precision=reranker.scorer.precision,
        machine=_machine(reranker.scorer.runtime),
        cells=tuple(cells),
        quality=quality,
        quality_sentence=sentence,
        notes=tuple(_notes(cells, left_out, limit, settings.budget_s) + _reading(reranker) + _parity(reranker)),
    )


def measure_cells(
    rank: Callable[[Shape], object],
    shapes: Sequence[Shape],
    repeat: int,
    budget_s: float,
    progress: Progress = silent,
    clock: Clock = time.perf_counter,
) -> list[LatencyCell]:
    """Time every (candidates, tokens), small ones first; the first call of each is a warm-up and does not count.

    The time that is left is shared out over the cells that are left by their size, so that all of them get about as
    many repeats. A cell for which it does not last for 3 repeats (or `repeat`, if that is fewer) is not measured.

    Returns:
        Cells in the order of `shapes`.
    """
    sizes = {shape: shape[0] * shape[1] for shape in shapes}
    waiting = sorted(sizes, key=lambda shape: sizes[shape])
    end = clock() + budget_s
    cells: dict[Shape, LatencyCell] = {}
    seconds_per_token = 0.0
    with progress("Timing cells", len(shapes)) as advance:
        for place, shape in enumerate(waiting):
            left = end - clock()
            share = left * sizes[shape] / sum(sizes[other] for other in waiting[place:])
            guess = seconds_per_token * sizes[shape]
            durations = _durations(partial(rank, shape), repeat, guess, share, left, clock)
            cells[shape] = _cell(shape, durations)
            if durations:
                seconds_per_token = float(np.median(durations)) / sizes[shape]
            advance(1)
    return [cells[shape] for shape in shapes]


def _durations(
    call: Callable[[], object], repeat: int, guess_s: float, share_s: float, left_s: float, clock: Clock
) -> list[float]:
    """Seconds of repeated calls after a warm-up; empty when the time would not last for enough of them.

    Args:
        guess_s: What a call takes by the speed so far; 0 when nothing is known.
        share_s: Time for this cell.
        left_s: Time for this cell and all that follow, which it may use for the fewest repeats.
    """
    fewest = min(repeat, _MIN_REPEATS)
    start = clock()
    if guess_s * (1 + fewest) > left_s:
        return []
    call()
    warm_s = clock() - start
    if warm_s * fewest > left_s - warm_s:
        return []
    wanted = repeat if warm_s <= 0 else min(repeat, max(fewest, int((share_s - warm_s) / warm_s)))
    durations: list[float] = []
    for _ in range(wanted):
        before = clock()
        call()
        now = clock()
        durations.append(now - before)
        if now - start > left_s:
            break
    return durations if len(durations) >= fewest else []


def _cell(shape: Shape, durations: Sequence[float]) -> LatencyCell:
    """Percentiles, with linear interpolation between the two nearest durations."""
    if not durations:
        return LatencyCell(*shape, None, None, None, 0)
    p50, p95 = (float(value) for value in np.percentile(durations, [50, 95]))
    return LatencyCell(*shape, p50 * 1000, p95 * 1000, shape[0] / max(p50, 1e-9), len(durations))


def _notes(cells: Sequence[LatencyCell], left_out: Sequence[int], limit: int, budget_s: float) -> list[str]:
    notes = []
    if left_out:
        lengths = ", ".join(map(str, left_out))
        notes.append(f"Left out: {lengths} tokens, since this model reads at most {limit} tokens of a pair.")
    n_missing = sum(cell.p50_ms is None for cell in cells)
    if n_missing:
        notes.append(
            f"{n_missing} of {len(cells)} cells did not fit into {budget_s:g} s and were not measured; give a longer "
            "--budget, fewer --candidates or fewer --tokens."
        )
    return notes


def _reading(reranker: Reranker) -> list[str]:
    fusion = reranker.bundle.fusion
    if fusion is None or fusion.reading is None:
        return []
    return [
        f"Of the candidates the cross-encoder reads the {fusion.reading.n} that the other parts rank best, as in the "
        "run that tuned it."
    ]


def _quality(model: Path) -> tuple[Mapping[str, Estimate], str]:
    """nDCG@10 of a run's rows, and where it is from."""
    folder = next((f for f in (model, model.resolve().parent) if (f / "report.json").is_file()), None)
    if folder is None:
        return {}, "Quality is not known: give the run folder that `crosstune tune` wrote."
    try:
        evaluation = read_evaluation(json.loads((folder / "report.json").read_text(encoding="utf-8")))
    except (ValueError, KeyError, TypeError) as error:
        return {}, f"Quality is not known: report.json cannot be read ({error})."
    rows = {row.name: row.measures[_MEASURE] for row in evaluation.table if row.name in _ROWS}
    return rows, f"Quality is that of the run's test questions, from {folder.name}/report.json, scored in torch."


def _parity(reranker: Reranker) -> list[str]:
    """What was found when an export was compared with torch."""
    runtime, precision = reranker.scorer.runtime, reranker.scorer.precision
    found = [a for a in read_artefacts(reranker.bundle.path) if (a.runtime, a.precision) == (runtime, precision)]
    return [f"{a.name}: {a.parity['sentence']}." for a in found if a.passed and "sentence" in a.parity]


def _machine(runtime: str) -> dict[str, str]:
    """What decides a latency beside the model."""
    machine = {
        "processor": processor_name(),
        "cores": f"{os.cpu_count()} (usable by this process: {n_processors()})",
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        **package_versions(),
    }
    if runtime == "torch":
        import torch

        device = torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"
        machine |= {"device": device, "threads": str(torch.get_num_threads())}
    return machine
