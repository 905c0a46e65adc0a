"""`crosstune rank` and `predict` with a deadline and a score cache."""

import json

import pytest
from typer.testing import CliRunner

from crosstune.bundle import ModelBundle, save_bundle
from crosstune.cli.main import app
from crosstune.errors import ConfigError
from crosstune.scoring import TorchScorer
from crosstune.scoring.cache import ScoreCache
from crosstune.types import Calibration, Fusion, ScoreKind

WORDS = ("card", "days", "report", "table", "menu", "link", "mail", "page", "plan", "team", "month", "top")
TEXTS = [f"a refund is paid {word}" for word in WORDS]


@pytest.fixture(scope="module")
def model(load, bert, tmp_path_factory):
    path = tmp_path_factory.mktemp("run") / "model"
    loaded = load(bert)
    # The threshold of 1 is never reached.
    scale, fusion = Calibration(1.0, 0.0, 1.0, 0, 0, 1), Fusion("bm25", 0.7)
    bundle = ModelBundle(path, 64, ScoreKind.LOGIT, "base", "r", "f", "fp32", scale, fusion)
    save_bundle(bundle, loaded.model, loaded.tokenizer)
    return path


@pytest.fixture
def documents(tmp_path):
    path = tmp_path / "docs.jsonl"
    rows = [{"text": text, "first_stage_score": float(i)} for i, text in enumerate(TEXTS)]
    path.write_text("\n".join(json.dumps(row) for row in rows))
    return path


def rank(model, documents, *options):
    return CliRunner().invoke(
        app, ["rank", "--model", str(model), "--query", "refund", "--documents", str(documents), *map(str, options)]
    )


def test_a_deadline_in_json(model, documents):
    # Too short for more than the first 8, which are the last 8 of the file by their first-stage score.
    found = json.loads(rank(model, documents, "--deadline-ms", "0.001", "--json").stdout)["results"]
    assert [item["reranked"] for item in found] == [True] * 8 + [False] * 4
    assert {item["index"] for item in found[:8]} == set(range(4, 12))
    assert [item["index"] for item in found[8:]] == [3, 2, 1, 0]
    for item in found[8:]:
        assert (item["logit"], item["probability"], item["score"], item["answers"]) == (None, None, None, False)
    assert [item["rank"] for item in found] == list(range(1, 13))


def test_a_deadline_in_the_table(model, documents):
    result = rank(model, documents, "--deadline-ms", "0.001")
    assert result.stdout.count("not reached\n") + result.stdout.count("not reached ") >= 4
    assert "The deadline came before 4 of 12 passages were reached." in result.stdout
    assert "it may be among those not reached" in result.stdout


def test_without_a_deadline_all_are_reranked(model, documents):
    result = rank(model, documents)
    assert "not reached" not in result.stdout
    assert "the answer is probably not among them" in result.stdout
    assert all(item["reranked"] for item in json.loads(rank(model, documents, "--json").stdout)["results"])


def test_a_deadline_of_nothing_is_refused(model, documents):
    result = rank(model, documents, "--deadline-ms", "0")
    assert isinstance(result.exception, ConfigError)
    assert "above 0 ms" in str(result.exception)


def test_a_cache_spares_the_model(model, documents, tmp_path, monkeypatch):
    cache = tmp_path / "scores.db"
    first = rank(model, documents, "--cache", cache, "--json")
    assert len(ScoreCache(cache)) == 12

    def refuse(self, pairs):
        raise AssertionError("scored again")

    monkeypatch.setattr(TorchScorer, "_logits", refuse)
    assert rank(model, documents, "--cache", cache, "--json").stdout == first.stdout
    assert isinstance(rank(model, documents, "--json").exception, AssertionError)


def test_predict_shares_the_cache(model, documents, tmp_path):
    cache, pairs = tmp_path / "scores.db", tmp_path / "pairs.csv"
    rank(model, documents, "--cache", cache)
    pairs.write_text("".join(["question,answer\n", *(f"refund,{text}\n" for text in [*TEXTS, "a new one"])]))
    options = ["predict", str(pairs), "--model", str(model), "--json", "-q"]
    cached = CliRunner().invoke(app, [*options, "--cache", str(cache)])
    assert len(ScoreCache(cache)) == 13
    plain = json.loads(CliRunner().invoke(app, options).stdout)
    logits = [item["logit"] for item in json.loads(cached.stdout)["predictions"]]
    assert logits == pytest.approx([item["logit"] for item in plain["predictions"]], abs=1e-5)


def test_a_cache_that_is_no_cache(model, documents):
    result = rank(model, documents, "--cache", documents)
    assert isinstance(result.exception, ConfigError)
    assert "cannot be used as a score cache" in str(result.exception)
