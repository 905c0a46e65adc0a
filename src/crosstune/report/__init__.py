"""What a run found out, for people (HTML, terminal) and for programs (JSON)."""

from crosstune.report.document import Example, ExampleRanking, RankedPassage, TuneReport, UnjudgedPassage
from crosstune.report.examples import pick_examples, pick_unjudged
from crosstune.report.html import render_html, write_html
from crosstune.report.json_report import evaluation_json, read_evaluation, to_json, write_json
from crosstune.report.terminal import text_table

__all__ = [
    "Example",
    "ExampleRanking",
    "RankedPassage",
    "TuneReport",
    "UnjudgedPassage",
    "evaluation_json",
    "pick_examples",
    "pick_unjudged",
    "read_evaluation",
    "render_html",
    "text_table",
    "to_json",
    "write_html",
    "write_json",
]
