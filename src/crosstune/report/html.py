"""The report for people: one HTML file that needs nothing else."""

from __future__ import annotations

import json
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined

from crosstune.report import chart, figures
from crosstune.report.document import TuneReport, headline
from crosstune.report.json_report import to_json


def write_html(report: TuneReport, path: Path) -> None:
    """Write the report as one self-contained file: no script, no external resource, all user text escaped."""
    path.write_text(render_html(report), encoding="utf-8", newline="\n")


def render_html(report: TuneReport) -> str:
    """The report as an HTML document."""
    measure = headline(report.evaluation)
    return (
        _environment()
        .get_template("report.html.j2")
        .render(
            report=report,
            measure=measure,
            measures=list(report.evaluation.table[0].measures),
            chart=chart.interval_chart(report.evaluation.table, measure),
            geometry=chart,
            settings=_flat(to_json(report)["settings"]),
        )
    )


def _environment() -> Environment:
    # The template's name does not end in .html, so escaping is asked for and not left to the name.
    environment = Environment(
        loader=PackageLoader("crosstune.report", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    for show in (
        figures.number,
        figures.signed,
        figures.interval,
        figures.signed_interval,
        figures.p_value,
        figures.seconds,
    ):
        environment.filters[show.__name__] = show
    return environment


def _flat(settings: dict[str, object], prefix: str = "") -> dict[str, str]:
    """Nested settings as "training.epochs" -> "3"."""
    flat: dict[str, str] = {}
    for name, value in settings.items():
        if isinstance(value, dict):
            flat |= _flat(value, f"{prefix}{name}.")
        else:
            flat[prefix + name] = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return flat
