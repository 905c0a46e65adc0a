"""`crosstune rank` and `predict`: what a ranking is by, with a deadline, and with a score cache."""

import json
import math
import shutil

import pytest
from typer.testing import CliRunner

from crosstune.bundle import MANIFEST, ModelBundle, save_bundle
from crosstune.cli.main import app
from crosstune.errors import BundleError, ConfigError
from crosstune.scoring import TorchScorer
from crosstune.scoring.cache import ScoreCache
from crosstune.types import Calibration, Fusion, Part, ScoreKind

WORDS = ("card", "days", "report", "table", "menu", "link", "mail", "page", "plan", "team", "month", "top")
TEXTS = [f"a refund is paid {word}" for word in WORDS]


@pytest.fixture(scope="module")
def model(load, bert, tmp_path_factory):
    path = tmp_path_factory.mktemp("run") / "model"
    loaded = load(bert)
    # The threshold of 1 is never reached.
    scale = Calibration(1.0, 0.0, 1.0, 0, 0, 1)
    fusion = Fusion("bm25", {Part.CROSS_ENCODER: 0.7, Part.BI_ENCODER: 2.0, Part.FIRST_STAGE: 0.3}, "en", scale)
    bundle = ModelBundle(path, 64, ScoreKind.LOGIT, "base", "r", "f", "fp32", scale, fusion)
    save_bundle(bundle, (loaded.model, loaded.tokenizer))
    return path


@pytest.fixture(scope="module")
def bi_encoder(bare_bert, tmp_path_factory):
    """A model without a cross-encoder, ranked by shared words too."""
    path, scale = tmp_path_factory.mktemp("run") / "model", Calibration(1.0, 0.0, 0.5, 0, 0, 1)
    fusion = Fusion("bm25", {Part.BI_ENCODER: 2.0, Part.LEXICAL: 1.0}, "en", scale)
    save_bundle(ModelBundle(path, 64, ScoreKind.LOGIT, "base", "r", "f", "fp32", scale, fusion), None, bare_bert)
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


def test_what_the_ranking_is_by_and_what_is_missing(model, documents, tmp_path):
    result = rank(model, documents, "--json")
    assert json.loads(result.stdout)["ranked_by"] == ["cross_encoder", "first_stage"]
    assert result.stderr == f"Ranked without the part bi_encoder: {model} holds no bi-encoder\n"
    plain = tmp_path / "docs.txt"
    plain.write_text("\n".join(TEXTS))
    assert json.loads(rank(model, plain, "--json").stdout)["ranked_by"] == ["cross_encoder"]


def test_a_model_without_cross_encoder(bi_encoder, documents, tmp_path):
    result = rank(bi_encoder, documents, "--json")
    found = json.loads(result.stdout)
    assert (found["ranked_by"], found["answered"], result.stderr) == (["bi_encoder", "lexical"], True, "")
    for item in found["results"]:
        assert item["logit"] is None
        assert item["probability"] == pytest.approx(1 / (1 + math.exp(-item["score"])))
    assert "yes" in rank(bi_encoder, documents).stdout
    pairs = tmp_path / "pairs.csv"
    pairs.write_text("question,answer\nrefund,a refund is paid\n")
    refused = CliRunner().invoke(app, ["predict", str(pairs), "--model", str(bi_encoder), "--json", "-q"])
    assert isinstance(refused.exception, BundleError)
    assert "no cross-encoder" in str(refused.exception)


def test_an_unknown_probability_is_said(bi_encoder, documents, tmp_path):
    # A recommended cross-encoder that is not there: nothing scales what is left.
    folder = tmp_path / "model"
    shutil.copytree(bi_encoder, folder)
    manifest = json.loads((folder / MANIFEST).read_text())
    manifest["fusion"]["weights"]["cross_encoder"] = 1.0
    (folder / MANIFEST).write_text(json.dumps(manifest))
    result = rank(folder, documents)
    assert result.stdout.count("unknown") == len(TEXTS)
    assert "Ranked without the part cross_encoder" in result.stderr
    assert {item["probability"] for item in json.loads(rank(folder, documents, "--json").stdout)["results"]} == {None}


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
