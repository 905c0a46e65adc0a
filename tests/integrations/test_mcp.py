"""The MCP server through the real client, in process and as a command."""

import asyncio
import sys

import pytest
from mcp import Client, StdioServerParameters

from crosstune.bundle import ModelBundle, save_bundle
from crosstune.cli.mcp import mcp as command
from crosstune.documents import ChunkSettings
from crosstune.errors import ConfigError
from crosstune.integrations.mcp import make_server
from crosstune.recipes.index import IndexSettings, index
from crosstune.recipes.search import open_pipeline
from crosstune.scoring import Reranker
from crosstune.types import Calibration, Fusion, Part, ScoreKind

QUESTION, TEXTS = "when is my refund paid", ["a refund is paid to your card", "the menu on top", "reset your password"]


@pytest.fixture(scope="module")
def place(corpus, bare_bert, tmp_path_factory):
    """(location of an index of the corpus, model folder)."""
    folder = tmp_path_factory.mktemp("mcp")
    rows = [f"{p.passage_id},{p.text},{p.passage_id.split('-')[0]}" for p in corpus.passages.values()]
    (folder / "docs.csv").write_text("id,text,topic\n" + "\n".join(rows))
    index(folder / "docs.csv", str(folder / "index"), IndexSettings(str(bare_bert), ChunkSettings(60, 0)))
    scale, model = Calibration(4.0, 0.5, 0.5, 0, 0, 1), folder / "run" / "model"
    fusion = Fusion("dense", {Part.BI_ENCODER: 9.0, Part.LEXICAL: 0.5}, "en", scale)
    save_bundle(ModelBundle(model, 64, ScoreKind.LOGIT, "b", "r", "f", "fp32", scale, fusion), None, bare_bert)
    return str(folder / "index"), model


def called(server, tool, arguments):
    """What a tool answers, and the names of all tools."""

    async def call():
        async with Client(server) as client:
            tools = await client.list_tools()
            return await client.call_tool(tool, arguments), [one.name for one in tools.tools]

    return asyncio.run(call())


def test_search_gives_what_the_pipeline_gives(place):
    pipeline = open_pipeline(*place)
    found, tools = called(make_server(pipeline, pipeline.reranker), "search", {"question": QUESTION, "top_n": 2})
    assert tools == ["search", "rerank"]
    expected = pipeline.search(QUESTION, top_n=2)
    assert found.structured_content["answered"] == expected.answered
    assert [(p["rank"], p["text"], p["document"]) for p in found.structured_content["passages"]] == [
        (hit.rank, hit.passage.text, hit.passage.origin.document_id) for hit in expected.hits
    ]
    assert found.structured_content["passages"][0]["probability"] == pytest.approx(expected.hits[0].probability)
    pipeline.close()


def test_filters_and_an_unknown_field(place):
    pipeline = open_pipeline(*place)
    server = make_server(pipeline, None)
    found, tools = called(server, "search", {"question": QUESTION, "filters": {"topic": "invoice"}})
    assert tools == ["search"]
    assert {p["metadata"]["topic"] for p in found.structured_content["passages"]} == {"invoice"}
    wrong, _ = called(server, "search", {"question": QUESTION, "filters": {"colour": "red"}})
    assert wrong.is_error
    assert "'colour'" in wrong.content[0].text
    pipeline.close()


def test_rerank_gives_what_the_reranker_gives(place):
    reranker = Reranker.load(place[1])
    found, tools = called(make_server(None, reranker), "rerank", {"query": QUESTION, "documents": TEXTS, "top_n": 2})
    assert tools == ["rerank"]
    expected = reranker.rank(QUESTION, TEXTS)[:2]
    assert [(r["index"], r["score"]) for r in found.structured_content["results"]] == [
        (item.index, pytest.approx(item.score)) for item in expected
    ]


def test_the_command_speaks_over_standard_input_and_output(place):
    location, model = place
    arguments = ["-m", "crosstune", "mcp", "--store", location, "--model", str(model)]
    found, tools = called(
        StdioServerParameters(command=sys.executable, args=arguments), "rerank", {"query": QUESTION, "documents": TEXTS}
    )
    assert tools == ["search", "rerank"]
    assert len(found.structured_content["results"]) == 3


def test_nothing_to_offer(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match="nothing to offer"):
        command(redis=None, store=None, model=None)
