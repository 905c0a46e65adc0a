"""From a question to a packed context and an answer, with a scripted language model over real HTTP."""

import json

import pytest
from typer.testing import CliRunner

from crosstune.bundle import ModelBundle, save_bundle
from crosstune.cli.main import app
from crosstune.documents import ChunkSettings
from crosstune.errors import ConfigError
from crosstune.llm import NO_ANSWER, connect
from crosstune.recipes.ask import grounds, reply, token_counter
from crosstune.recipes.index import IndexSettings, index
from crosstune.recipes.search import open_pipeline
from crosstune.types import Calibration, Fusion, Part, ScoreKind

QUESTION = "when is my refund paid"


def words(text):
    return len(text.split())


@pytest.fixture(scope="module")
def location(corpus, bare_bert, tmp_path_factory):
    folder = tmp_path_factory.mktemp("ask")
    lines = [json.dumps({"id": p.passage_id, "text": p.text}) for p in corpus.passages.values()]
    (folder / "docs.jsonl").write_text("\n".join(lines))
    index(folder / "docs.jsonl", str(folder / "index"), IndexSettings(str(bare_bert), ChunkSettings(60, 0)))
    return str(folder / "index")


@pytest.fixture(scope="module")
def models(bare_bert, tmp_path_factory):
    """Threshold -> model folder: of one that every passage reaches, and one that none does."""
    found = {}
    for threshold in (0.0, 1.0):
        path = tmp_path_factory.mktemp("run") / "model"
        scale = Calibration(4.0, 0.5, threshold, 0, 0, 1)
        fusion = Fusion("dense", {Part.BI_ENCODER: 9.0, Part.LEXICAL: 0.5}, "en", scale)
        save_bundle(ModelBundle(path, 64, ScoreKind.LOGIT, "b", "r", "f", "fp32", scale, fusion), None, bare_bert)
        found[threshold] = path
    return found


@pytest.fixture
def answering(location, models):
    opened = open_pipeline(location, models[0.0])
    yield opened
    opened.close()


@pytest.fixture
def unsure(location, models):
    opened = open_pipeline(location, models[1.0])
    yield opened
    opened.close()


def test_the_best_passages_that_fit(answering):
    found = grounds(answering, QUESTION, 40, words)
    assert 0 < found.context.n_tokens <= 40
    best = found.search.hits[0].passage
    assert found.context.citations[0].passage_ids == (best.passage_id,)
    assert best.text in found.context.text
    assert len(found.search.hits) == 20  # all candidates are looked at, not the five that search shows


def test_nothing_is_packed_and_nobody_asked_when_no_passage_reaches_the_threshold(unsure, stub):
    found = grounds(unsure, QUESTION, 40, words)
    assert (found.context.text, found.search.answered) == ("", False)
    assert {left.reason for left in found.context.left_out} == {"below threshold"}
    assert "".join(reply(QUESTION, found, connect("tiny", stub.base_url))) == NO_ANSWER
    assert stub.requests == []


def test_another_threshold_takes_the_place_of_the_models_own(unsure, answering):
    probabilities = [hit.probability for hit in unsure.search(QUESTION, top_n=20).hits]
    found = grounds(unsure, QUESTION, 40, words, threshold=max(probabilities) - 1e-6)
    assert found.search.answered
    assert found.context.citations[0].passage_ids == (found.search.hits[0].passage.passage_id,)
    assert len(found.context.citations) > 1  # what supports it need not reach it
    assert grounds(unsure, QUESTION, 40, words, threshold=max(probabilities) + 1e-6).context.text == ""
    assert grounds(answering, QUESTION, 40, words, threshold=1.0).context.text == ""
    for wrong in (-0.1, 1.1):
        with pytest.raises(ConfigError, match="a probability from 0 to 1"):
            grounds(unsure, QUESTION, 40, words, threshold=wrong)


def test_without_probabilities_everything_is_packed(location):
    opened = open_pipeline(location)
    assert grounds(opened, QUESTION, 40, words).context.citations
    assert grounds(opened, QUESTION, 40, words, threshold=0.9).context.citations
    opened.close()


def test_an_answer_needs_a_model(answering):
    with pytest.raises(ConfigError, match="OPENAI_BASE_URL"):
        list(reply(QUESTION, grounds(answering, QUESTION, 40, words), None))


def test_tokens_are_counted_by_the_embedder_or_a_file(answering, bert, tmp_path):
    from tokenizers import Tokenizer

    expected = Tokenizer.from_file(str(bert / "tokenizer.json"))
    text = "a refund is paid to your card"
    n = len(expected.encode(text, add_special_tokens=False).ids)
    assert token_counter(answering.store)(text) == n
    assert (
        token_counter(answering.store, bert)(text) == token_counter(answering.store, bert / "tokenizer.json")(text) == n
    )
    assert token_counter(answering.store)(text * 100) > 512  # not cut at the model's limit
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(ConfigError, match="that can be read"):
        token_counter(answering.store, tmp_path)


def ask(location, *options):
    return CliRunner().invoke(app, ["ask", QUESTION, "--store", location, *map(str, options)])


def test_the_command_streams_an_answer_with_its_sources(location, models, stub, monkeypatch):
    monkeypatch.setenv("OPENAI_BASE_URL", stub.base_url)
    stub.script("After thirty days [1].")
    result = ask(location, "--model", models[0.0], "--llm", "tiny", "--context-tokens", 80)
    assert result.exit_code == 0
    answer, source = result.stdout.strip().splitlines()
    assert answer == "After thirty days [1]."
    assert source.startswith("[1] ")
    sent = json.dumps(stub.requests[0])
    assert QUESTION in sent
    assert "a refund is paid" in sent
    assert stub.requests[0]["stream"] is True


def test_the_command_as_json(location, models, stub, monkeypatch):
    monkeypatch.setenv("OPENAI_BASE_URL", stub.base_url)
    stub.script("After thirty days [1][7].")
    result = ask(location, "--model", models[0.0], "--llm", "tiny", "--context-tokens", 60, "--json")
    found = json.loads(result.stdout)
    assert (found["answer"], found["cited"], found["answered"]) == ("After thirty days [1][7].", [1], True)
    assert found["context"]["n_tokens"] <= 60
    assert found["context"]["citations"][0]["number"] == 1
    assert found["hits"][0]["rank"] == 1


def test_without_an_endpoint_the_context_is_printed(location, models, llm_environment, monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY")
    result = ask(location, "--model", models[0.0], "--context-tokens", 60)
    assert result.stdout.startswith("[1]")
    assert "No language model is named" in result.stderr
    unknown = ask(location, "--model", models[1.0])
    assert unknown.stdout.strip() == NO_ANSWER
    as_json = json.loads(ask(location, "--model", models[0.0], "--json").stdout)
    assert as_json["answer"] is None
    assert as_json["context"]["text"]
