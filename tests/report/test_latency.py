import json
import math
import xml.etree.ElementTree as ET
from dataclasses import replace
from itertools import pairwise

import pytest

from crosstune.report import LatencyCell, LatencyReport, cell_texts, latency_json, quality_lines, write_latency
from crosstune.report.latency_chart import HEIGHT, WIDTH, Point, latency_svg, log_ticks
from crosstune.types import Estimate

CELL = LatencyCell(10, 64, 1234.5, 2000.0, 8.1004, 7)
MISSING = LatencyCell(20, 64, None, None, None, 0)
QUALITY = {"tuned": Estimate(0.8, 0.7, 0.9, 40)}
REPORT = LatencyReport("runs/mine", "torch", "fp32", {"processor": "X"}, (CELL, MISSING), QUALITY, "Said.", ())


def drawn(svg, kind):
    return [element for element in ET.fromstring(svg).iter() if element.tag.endswith("}" + kind)]


@pytest.mark.parametrize(
    ("low", "high", "ticks"),
    [
        (10, 100, [10, 20, 50, 100]),
        (11, 99, [10, 20, 50, 100]),
        (3, 4, [2, 5]),
        (5, 5, [5, 10]),
        (0.3, 0.9, [0.2, 0.5, 1]),
        (1, 1, [1, 2]),
    ],
)
def test_ticks_are_round_and_hold_everything(low, high, ticks):
    assert log_ticks(low, high) == pytest.approx(ticks)


def test_both_axes_are_logarithmic():
    # 10, 100 and 1000 candidates and 1, 10 and 100 ms: equal steps.
    points = [Point(10, 1, 1), Point(100, 10, 10), Point(1000, 100, 100)]
    dots = drawn(latency_svg({64: points}, "t"), "circle")
    xs, ys = ([float(dot.get(axis)) for dot in dots] for axis in ("cx", "cy"))
    assert xs[1] - xs[0] == pytest.approx(xs[2] - xs[1], abs=0.2)
    assert ys[0] - ys[1] == pytest.approx(ys[1] - ys[2], abs=0.2)
    assert xs == sorted(xs)
    assert ys == sorted(ys, reverse=True)
    assert all(0 < x < WIDTH for x in xs)
    assert all(0 < y < HEIGHT for y in ys)


def test_the_band_lies_between_median_and_95th_percentile():
    (band,) = drawn(latency_svg({64: [Point(10, 1, 10), Point(100, 10, 100)]}, "t"), "polygon")
    points = [tuple(map(float, pair.split(","))) for pair in band.get("points").split()]
    assert points[0][0] == points[3][0]
    assert points[0][1] > points[3][1]  # pixels count downwards
    assert points[0][1] - points[3][1] == pytest.approx(points[1][1] - points[2][1], abs=0.2)


def test_labels_at_the_ends_do_not_touch():
    texts = drawn(latency_svg({t: [Point(10, 1 + t / 1000, 2)] for t in (1, 2, 3)}, "t"), "text")
    ys = sorted(float(text.get("y")) for text in texts if (text.text or "").endswith(" tokens"))
    assert len(ys) == 3
    assert all(b - a >= 15 for a, b in pairwise(ys))


def test_one_point_stands_in_the_middle():
    (dot,) = drawn(latency_svg({64: [Point(10, 3, 3)]}, 'a "title" & <more>'), "circle")
    assert 0 < float(dot.get("cx")) < WIDTH


def test_figures_in_tables():
    assert cell_texts(CELL) == ["64", "10", "1,234", "2,000", "8.1", "7"]
    assert cell_texts(MISSING) == ["64", "20", "not measured", "", "", ""]
    assert quality_lines(REPORT) == ["tuned: nDCG@10 0.800 (95% interval 0.700 to 0.900, n 40)", "Said."]


def test_an_interval_that_does_not_exist(tmp_path):
    report = replace(REPORT, quality={"tuned": Estimate(0.8, math.nan, math.nan, 1)})
    assert latency_json(report)["quality"]["tuned"] == {"mean": 0.8, "ci_low": None, "ci_high": None, "n": 1}
    assert quality_lines(report)[0] == "tuned: nDCG@10 0.800 (no interval, n 1)"
    write_latency(report, tmp_path)
    assert json.loads((tmp_path / "latency.json").read_text()) == json.loads(json.dumps(latency_json(report)))
