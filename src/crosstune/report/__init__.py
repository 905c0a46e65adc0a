"""What a run found out, for people (HTML, terminal) and for programs (JSON)."""

from crosstune.report.document import Example, ExampleRanking, RankedPassage, TuneReport, UnjudgedPassage
from crosstune.report.examples import pick_examples, pick_unjudged
from crosstune.report.html import render_html, write_html
from crosstune.report.json_report import evaluation_json, read_evaluation, to_json, write_json
from crosstune.report.latency import (
    LATENCY_COLUMNS,
    LatencyCell,
    LatencyReport,
    cell_texts,
    latency_json,
    quality_lines,
    write_latency,
)
from crosstune.report.terminal import text_table

__all__ = [
    "LATENCY_COLUMNS",
    "Example",
    "ExampleRanking",
    "LatencyCell",
    "LatencyReport",
    "RankedPassage",
    "TuneReport",
    "UnjudgedPassage",
    "cell_texts",
    "evaluation_json",
    "latency_json",
    "pick_examples",
    "pick_unjudged",
    "quality_lines",
    "read_evaluation",
    "render_html",
    "text_table",
    "to_json",
    "write_html",
    "write_json",
    "write_latency",
]
