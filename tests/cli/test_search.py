"""`crosstune index` and `crosstune search`: a folder of documents to ranked passages, and what is refused."""

import json

import pytest
from typer.testing import CliRunner

from crosstune.bundle import ModelBundle, save_bundle
from crosstune.cli.main import app
from crosstune.cli.options import conditions, location
from crosstune.errors import ConfigError, DataError, StoreError
from crosstune.types import Calibration, Condition, Fusion, Part, ScoreKind


@pytest.fixture(scope="module")
def store(bare_bert, tmp_path_factory):
    """An index made by the command, and what the command printed."""
    folder, place = tmp_path_factory.mktemp("docs"), tmp_path_factory.mktemp("index") / "index"
    (folder / "faq.csv").write_text("text,plan\na refund is paid to your card,basic\ndownload the invoice,team\n")
    (folder / "menu.md").write_text("# Menu\n\nthe menu on top\n")
    (folder / "old.docx").write_text("x")
    result = run("index", folder, "--store", place, "--embedder", bare_bert)
    assert result.exit_code == 0, result.output
    return place, result, folder


@pytest.fixture(scope="module")
def model(bare_bert, tmp_path_factory):
    path, scale = tmp_path_factory.mktemp("run") / "model", Calibration(4.0, 0.5, 1.0, 0, 0, 1)
    fusion = Fusion("tuned dense", {Part.BI_ENCODER: 9.0, Part.LEXICAL: 0.5}, "en", scale)
    save_bundle(ModelBundle(path, 64, ScoreKind.LOGIT, "b", "r", "f", "fp32", scale, fusion), None, bare_bert)
    return path


def run(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_index_says_what_it_did(store):
    _, result, _ = store
    assert "holds 3 passages of 3 documents: 3 embedded" in result.stdout
    assert "Searchable metadata: plan (tag)" in result.stdout
    assert "1 of a kind that cannot be read (.docx)" in result.stderr


def test_index_as_json_and_a_second_time(store, bare_bert):
    place, _, folder = store
    result = run("index", folder, "--store", place, "--embedder", bare_bert, "--json", "-q")
    found = json.loads(result.stdout)
    assert (found["n_kept"], found["n_embedded"], found["unknown"], found["fields"]) == (
        3, 0, {".docx": 1}, {"plan": "tag"}
    )  # fmt: skip


def test_search_shows_ranks_before_and_after(store, model):
    result = run("search", "when is my refund paid", "--store", store[0], "--model", model, "--top-n", 2)
    assert result.exit_code == 0, result.output
    assert result.stdout.count(" · probability ") == 2
    assert "was " in result.stdout
    assert "3 candidates by vector search; embed " in result.stdout
    assert "No passage reaches the no-answer threshold" in result.stdout  # it is 1: never reached
    without = run("search", "when is my refund paid", "--store", store[0])
    assert "candidates by hybrid search" in without.stdout
    assert without.stdout.count("score 0.") == 3


def test_search_as_json_under_a_condition(store, model):
    result = run("search", "refund", "--store", store[0], "--model", model, "--where", "plan=basic|free", "--json")
    found = json.loads(result.stdout)
    assert [hit["text"] for hit in found["hits"]] == ["a refund is paid to your card"]
    hit = found["hits"][0]
    assert (hit["rank"], hit["first_stage_rank"], hit["answers"], hit["metadata"]) == (1, 1, False, {"plan": "basic"})
    assert hit["origin"] == {"document_id": "faq.csv#1", "position": 0, "start": 0, "end": 29}
    assert found["ranked_by"] == ["bi_encoder", "lexical"]
    assert set(found["timings_ms"]) == {"embed", "search", "rerank"}


def test_search_warns_of_an_index_that_was_embedded_otherwise(store, model, tmp_path, bert):
    (tmp_path / "docs.txt").write_text("a refund is paid")
    run("index", tmp_path / "docs.txt", "--store", tmp_path / "index", "--embedder", bert)
    result = run("search", "refund", "--store", tmp_path / "index", "--model", model)
    assert "judged over an index embedded with its own bi-encoder" in result.stderr
    assert "judged over" not in run("search", "refund", "--store", store[0], "--model", model).stderr


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (("index", "missing", "--store", "x"), DataError),
        (("search", "refund", "--store", "missing"), StoreError),
        (("search", "refund", "--store", "x", "--redis", "redis://localhost:1"), ConfigError),
        (("index", "missing", "--chunk-tokens", "1"), ConfigError),
    ],
)
def test_refusals(arguments, error, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert isinstance(run(*arguments).exception, error)


def test_where_an_index_is(tmp_path):
    assert location(None, "docs", None) == "crosstune-index"
    assert location(None, "docs", tmp_path) == str(tmp_path)
    assert location("redis://localhost:6379/", "faq", None) == "redis://localhost:6379/faq"
    assert location("rediss://h:1/0?ssl_ca_certs=a", "faq", None) == "rediss://h:1/0/faq?ssl_ca_certs=a"


def test_conditions():
    assert conditions(None) == ()
    assert conditions(["plan = basic | team", "year>=2020", "lang!=de", "note=a=b"]) == (
        Condition("plan", "=", ("basic", "team")),
        Condition("year", ">=", ("2020",)),
        Condition("lang", "!=", ("de",)),
        Condition("note", "=", ("a=b",)),
    )
    for wrong in ("plan", "=basic", "plan=", "plan ~ x"):
        with pytest.raises(ConfigError, match="is no condition"):
            conditions([wrong])
