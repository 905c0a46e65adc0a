import math
import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest

from crosstune.report import render_html, write_html
from crosstune.report.chart import LABEL_WIDTH, VALUE_WIDTH, WIDTH, interval_chart
from crosstune.types import Estimate, EvalReport, TableRow, Verdict

VOID = {"meta", "br", "line", "circle"}


class Reader(HTMLParser):
    """Collects tags, attributes and text, and fails on tags that are not closed in order."""

    def __init__(self, document):
        super().__init__()
        self.tags, self.attributes, self.text, self.open = [], [], [], []
        self.feed(document)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [(tag, *pair) for pair in attrs]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [(tag, *pair) for pair in attrs]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


def words(document):
    return " ".join(" ".join(Reader(document).text).split())


def test_hostile_text_stays_text(report):
    document = render_html(report)
    reader = Reader(document)
    assert "script" not in reader.tags
    assert "b" not in reader.tags
    # Title (twice), sentence, data (name and value), finding, note, 3 + 3 rankings and their questions,
    # settings...
    assert document.count("&lt;script&gt;") > 20
    assert "<script>alert('x')</script> & \"quoted\" <b>" in "".join(reader.text)


def test_the_file_needs_nothing_else(report):
    reader = Reader(render_html(report))
    assert not {"script", "link", "img", "iframe", "object", "form"} & set(reader.tags)
    assert not [a for a in reader.attributes if a[1] in ("src", "href", "action") or a[1].startswith("on")]
    assert not re.search(r"url\(|@import|https?:", render_html(report))


def test_all_figures_are_shown(report):
    text = words(render_html(report))
    for shown in (
        "Not proven",
        "0.664 0.630 to 0.690",
        "tuned bm25 nDCG@10 +0.051 +0.012 to +0.090 < 0.001 0.310 300 800 100",
        "1,200 test questions",
        "train 4,000 · dev 600 · test 1,200 questions; seed 13",
        "constant-scores (not to be shipped)",
        "Shipped is the cross-encoder's logit + shared words (BM25) over the candidates of hybrid <script>",
        "Score = 0.700 × cross encoder + 0.250 × lexical; the weights were fitted on dev",
        "sigmoid(score / 1.700 − 0.400)",
        "900 dev decisions this had precision 0.910 and recall 0.840",
        "nDCG@10 +0.500",
        "first relevant passage at rank 3",
        "training 3 min 05 s",
        "training.epochs 3",
        "crosstune 0.1.0",
    ):
        assert shown in text


def test_tables_name_their_rows_and_columns(report):
    reader = Reader(render_html(report))
    scopes = [value for tag, name, value in reader.attributes if (tag, name) == ("th", "scope")]
    assert scopes.count("col") == 8 + 9 + 3
    assert len(scopes) == reader.tags.count("th")
    assert ("html", "lang", "en") in reader.attributes


@pytest.mark.parametrize("verdict", list(Verdict))
def test_each_verdict_is_a_word_and_not_only_a_colour(report, verdict):
    document = render_html(replace(report, verdict=verdict))
    assert f"<strong>{verdict.value.capitalize()}</strong>" in document
    assert f'class="verdict {verdict.value.replace(" ", "-")}"' in document


def test_what_is_missing_is_said(report):
    row = TableRow("tuned", {"nDCG@10": Estimate(0.5, math.nan, math.nan, 3)})
    bare = replace(
        report,
        evaluation=EvalReport((row,), (), {}),
        health=(),
        wins=(),
        losses=(),
        unjudged=(),
        calibration=None,
        fusion=None,
        split_seed=None,
        notes=(),
    )
    text = words(render_html(bare))
    assert "No findings" in text
    assert "No question was ranked better" in text
    assert "No question was ranked worse" in text
    assert "Every top-ranked passage has been judged" in text
    assert "split given by the user" in text
    assert "0.500 n/a" in text
    assert "nan" not in render_html(bare).lower()


def test_write_html_writes_utf8(report, tmp_path):
    path = tmp_path / "report.html"
    write_html(replace(report, title="Häufige Fragen 常见问题"), path)
    assert path.read_bytes() == render_html(replace(report, title="Häufige Fragen 常见问题")).encode("utf-8")


def rows_of(*estimates):
    return [TableRow(f"r{i}", {"m": Estimate(*e, 100)}) for i, e in enumerate(estimates)]


def test_chart_by_hand():
    # Values 0.42 to 0.78: span 0.36, at most five steps, so 0.1; ticks 0.4 to 0.8.
    chart = interval_chart(rows_of((0.5, 0.42, 0.58), (0.7, 0.62, 0.78)), "m")
    assert [label for _, label in chart.ticks] == ["0.40", "0.50", "0.60", "0.70", "0.80"]
    left, right = LABEL_WIDTH, WIDTH - VALUE_WIDTH
    assert (chart.ticks[0][0], chart.ticks[-1][0]) == (left, right)
    first, second = chart.marks
    assert first.mean == pytest.approx(left + 0.25 * (right - left), abs=0.1)
    assert second.high == pytest.approx(left + 0.95 * (right - left), abs=0.1)
    assert (first.y, second.y, chart.height) == (15, 45, 88)
    assert second.text == "0.700"


def test_the_longest_name_of_a_row_is_whole_in_the_chart(report):
    first, *rest = report.evaluation.table
    for name, shown in (("tuned without known questions on tuned hybrid",) * 2, ("x" * 47, "x" * 45 + "…")):
        evaluation = replace(report.evaluation, table=(replace(first, name=name), *rest))
        assert f">{shown}</text>" in render_html(replace(report, evaluation=evaluation))


@pytest.mark.parametrize("estimate", [(0.0, 0.0, 0.0), (1.0, 1.0, 1.0), (0.5, math.nan, math.nan), (0.5, 0.0, 1.0)])
def test_chart_of_extreme_values_stays_inside(estimate):
    chart = interval_chart(rows_of(estimate), "m")
    (mark,) = chart.marks
    places = [x for x in (mark.mean, mark.low, mark.high) if x is not None]
    assert all(LABEL_WIDTH <= x <= WIDTH - VALUE_WIDTH for x in places)
    assert len(chart.ticks) >= 2
    assert (mark.low is None) == math.isnan(estimate[1])
