"""The report for programs: plain JSON that every parser accepts."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from enum import Enum
from pathlib import Path
from typing import Any

import numpy as np

from crosstune.report.document import TuneReport
from crosstune.types import Comparison, Estimate, EvalReport, TableRow


def to_json(report: TuneReport) -> dict[str, Any]:
    """The report as dictionaries, lists, strings and numbers; keys named like the fields.

    Figures that do not exist (an interval of too few questions) are null, since JSON has no NaN.

    Raises:
        TypeError: A setting is of a type that JSON cannot hold.
    """
    evaluation = report.evaluation
    document = {
        "title": report.title,
        "verdict": report.verdict,
        "verdict_sentence": report.verdict_sentence,
        "shipped": report.shipped,
        "data": report.data,
        "split": {**report.split_counts, "seed": report.split_seed},
        "table": evaluation.table,
        "comparisons": evaluation.comparisons,
        "health": report.health,
        "timings_s": report.timings_s,
        "settings": report.settings,
        "calibration": report.calibration,
        "fusion": report.fusion,
        "dev": report.dev,
        "notes": report.notes,
        "examples": {"wins": report.wins, "losses": report.losses},
        "unjudged": report.unjudged,
        "versions": report.versions,
        "per_query": evaluation.per_query,
    }
    return {key: _plain(value) for key, value in document.items()}


def evaluation_json(evaluation: EvalReport) -> dict[str, Any]:
    """Table, comparisons and per-question values alone, under the same keys as `to_json`."""
    parts = {"table": evaluation.table, "comparisons": evaluation.comparisons, "per_query": evaluation.per_query}
    return {key: _plain(value) for key, value in parts.items()}


def read_evaluation(document: Mapping[str, Any]) -> EvalReport:
    """The evaluation in a document of `to_json`; null reads as NaN."""
    rows = [
        TableRow(row["name"], {measure: _estimate(values) for measure, values in row["measures"].items()})
        for row in document["table"]
    ]
    comparisons = [Comparison(**{**given, "delta": _estimate(given["delta"])}) for given in document["comparisons"]]
    return EvalReport(tuple(rows), tuple(comparisons), document["per_query"])


def _estimate(values: Mapping[str, Any]) -> Estimate:
    mean, low, high = (math.nan if values[key] is None else float(values[key]) for key in ("mean", "ci_low", "ci_high"))
    return Estimate(mean, low, high, int(values["n"]))


def write_json(report: TuneReport, path: Path) -> None:
    """Write `to_json` as UTF-8."""
    text = json.dumps(to_json(report), ensure_ascii=False, allow_nan=False, indent=2)
    path.write_text(text + "\n", encoding="utf-8", newline="\n")


def _plain(value: object) -> Any:
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, np.generic):
        return _plain(value.item())
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    if value is None or isinstance(value, (str, int)):
        return value
    if isinstance(value, Path):
        return str(value)
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: _plain(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, Mapping):
        return {str(_plain(key)): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    raise TypeError(f"{type(value).__name__} cannot be written to a JSON report: {value!r}; convert it first")
