import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from crosstune.report import to_json, write_json
from crosstune.types import Estimate, EvalReport, ScoreKind, TableRow


def test_promised_keys_have_the_promised_shape(report):
    document = to_json(report)
    assert document["verdict"] == "not proven"
    assert document["split"] == {"train": 4000, "dev": 600, "test": 1200, "seed": 13}
    assert [row["name"] for row in document["table"]] == ["bm25", "tuned", "ceiling"]
    assert document["table"][0]["measures"]["nDCG@10"] == {
        "mean": 0.6123,
        "ci_low": 0.58,
        "ci_high": 0.64,
        "n": 1200,
    }
    (comparison,) = document["comparisons"]
    assert (comparison["baseline"], comparison["candidate"], comparison["p_holm"]) == (
        "bm25",
        "tuned",
        0.0004,
    )
    assert comparison["delta"]["ci_low"] == 0.0123
    assert (comparison["wins"], comparison["ties"], comparison["losses"]) == (300, 800, 100)
    assert document["health"][0]["code"] == "constant-scores"
    assert document["health"][0]["fatal"] is True
    assert document["timings_s"] == {"training": 185.2, "evaluation": 12.34}


def test_the_rest_is_there_too(report):
    document = to_json(report)
    assert document["calibration"]["threshold"] == 0.62
    assert document["shipped"] == report.shipped
    assert document["fusion"] == {
        "first_stage": "hybrid",
        "weights": {"cross_encoder": 0.7, "lexical": 0.25},
        "language": "en",
        "calibration": document["calibration"],
        "reading": None,
    }
    assert {type(part) for part in document["fusion"]["weights"]} == {str}
    assert document["settings"]["training"]["epochs"] == 3
    assert document["settings"]["budget"] is None
    assert document["examples"]["wins"][0]["query_id"] == "q3"
    assert document["examples"]["wins"][0]["candidate"]["top"][0]["relevance"] == 1
    assert document["unjudged"][0]["passage_id"] == "p7"
    assert document["per_query"]["tuned"]["nDCG@10"]["q5"] == 1.0
    assert document["versions"] == {"crosstune": "0.1.0"}
    assert document["notes"] == list(report.notes)


def test_the_file_is_what_to_json_returns(report, tmp_path):
    path = tmp_path / "report.json"
    write_json(report, path)
    assert json.loads(path.read_text(encoding="utf-8")) == to_json(report)


def test_figures_that_do_not_exist_are_null(report, tmp_path):
    row = TableRow("tuned", {"nDCG@10": Estimate(0.5, math.nan, math.inf, 3)})
    few = replace(report, evaluation=EvalReport((row,), (), {}), calibration=None, fusion=None, split_seed=None)
    path = tmp_path / "report.json"
    write_json(few, path)

    def refuse(constant):
        raise AssertionError(f"{constant} is no JSON")

    document = json.loads(path.read_text(encoding="utf-8"), parse_constant=refuse)
    assert document["table"][0]["measures"]["nDCG@10"] == {
        "mean": 0.5,
        "ci_low": None,
        "ci_high": None,
        "n": 3,
    }
    assert document["split"]["seed"] is None
    assert document["calibration"] is document["fusion"] is None


def test_settings_of_common_types_are_written(report):
    settings = {
        "path": Path("a/b"),
        "kind": ScoreKind.LOGIT,
        "list": (1, 2.5),
        "count": np.int64(3),
        "on": True,
    }
    document = to_json(replace(report, settings=settings))
    assert document["settings"] == {"path": "a/b", "kind": "logit", "list": [1, 2.5], "count": 3, "on": True}
    assert type(document["settings"]["count"]) is int
    assert type(document["settings"]["kind"]) is str


def test_a_setting_that_json_cannot_hold_is_refused(report):
    with pytest.raises(TypeError, match="set cannot be written"):
        to_json(replace(report, settings={"ids": {1, 2}}))
