"""A run that has ended: what its folder says, read back."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from crosstune.recipes.run_folder import RunFolder
from crosstune.report import read_evaluation
from crosstune.types import EvalReport, Verdict


@dataclass(frozen=True, slots=True)
class FinishedRun:
    """What a run found out.

    Attributes:
        path: The run folder.
        model: Folder of the model; None when it was not fit to ship.
        verdict, verdict_sentence: What the test set says.
        evaluation: Table, comparisons and per-question values.
        report: All of report.json.
    """

    path: Path
    model: Path | None
    verdict: Verdict
    verdict_sentence: str
    evaluation: EvalReport
    report: Mapping[str, Any]


def read_finished(folder: RunFolder) -> FinishedRun:
    """Read a complete run back from its folder."""
    report = json.loads((folder.path / "report.json").read_text(encoding="utf-8"))
    return FinishedRun(
        path=folder.path,
        model=folder.model if folder.model.is_dir() else None,
        verdict=Verdict(report["verdict"]),
        verdict_sentence=report["verdict_sentence"],
        evaluation=read_evaluation(report),
        report=report,
    )
