"""The examples of docs/integrations.md are run as they stand; only Redis is ours."""

import asyncio
import re
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

PAGE = (Path(__file__).parents[2] / "docs" / "integrations.md").read_text(encoding="utf-8")
QUESTION = "reset the password"
TEXTS = ["download the invoice", "reset your password", "a refund is paid", "export the report of the password"]
TITLES = ["Invoices", "Account", "Refunds", "Reports"]


def blocks(heading):
    """Python blocks between a heading and the next one."""
    (section,) = re.findall(rf"^#+ {heading}\n(.*?)(?=^#+ |\Z)", PAGE, re.M | re.S)
    return re.findall(r"```python\n(.*?)```", section, re.S)


@pytest.fixture
def run(folders, tmp_path, monkeypatch, request):
    """Run the only, or the numbered, example under a heading with the names it leaves to the reader."""
    (tmp_path / "runs" / "mine").mkdir(parents=True)
    (tmp_path / "runs" / "mine" / "model").symlink_to(folders["joined"])
    monkeypatch.chdir(tmp_path)

    def example(heading, number=0, **names):
        code = blocks(heading)[number]
        if "redis://localhost:6379" in code:
            code = code.replace("redis://localhost:6379", request.getfixturevalue("redis_url"))
        namespace = {"question": QUESTION, **names}
        exec(compile(code, f"{heading} {number}", "exec"), namespace)
        return SimpleNamespace(**namespace)

    return example


@pytest.fixture
def expected(models):
    """Places of the three best texts."""
    return [item.index for item in models["joined"].rank(QUESTION, TEXTS)][:3]


@pytest.fixture
def faq(redis_url):
    from redisvl.index import SearchIndex

    vector = {"dims": 2, "algorithm": "flat", "distance_metric": "cosine"}
    fields = [("title", "text", {}), ("content", "text", {}), ("topic", "tag", {}), ("embedding", "vector", vector)]
    index = SearchIndex.from_dict(
        {
            "index": {"name": "faq", "prefix": "faq"},
            "fields": [{"name": name, "type": kind, "attrs": attrs} for name, kind, attrs in fields],
        },
        redis_url=redis_url,
    )
    index.create(overwrite=True, drop=True)
    index.load(
        [
            {"id": f"{i}", "title": title, "content": text, "topic": "t", "embedding": np.float32([1, i]).tobytes()}
            for i, (title, text) in enumerate(zip(TITLES, TEXTS, strict=True))
        ],
        id_field="id",
    )
    yield
    index.delete(drop=True)
    index.disconnect()


def test_every_example_is_run_here():
    assert {heading: len(blocks(heading)) for heading in re.findall("^#+ (.*)$", PAGE, re.M) if blocks(heading)} == {
        "RedisVL": 2,
        "A gate for the semantic cache": 1,
        "LangChain": 1,
        "LlamaIndex": 1,
        "Haystack": 1,
    }


def test_redisvl(run, faq, models, capsys):
    found = run("RedisVL", embed=lambda _: [1.0, 0.0])
    full = [f"{title} {text}" for title, text in zip(TITLES, TEXTS, strict=True)]
    best = [item.index for item in models["joined"].rank(QUESTION, full)][:3]
    assert [doc["id"] for doc in found.docs] == [f"faq:{i}" for i in best]
    assert len(found.scores) == len(capsys.readouterr().out.splitlines()) == 3


def test_redisvl_without_blocking(run, faq):
    found, _ = asyncio.run(run("RedisVL", 1).search(QUESTION))
    assert {doc["content"] for doc in found} == {TEXTS[1], TEXTS[3]}  # those that have one of its words


def test_semantic_cache(run, models):
    from redisvl.utils.vectorize import CustomVectorizer

    found = run("A gate for the semantic cache", vectorizer=CustomVectorizer(lambda text, **_: [1.0, 0.5]))
    (alone,) = found.cache.check(QUESTION)
    probability = models["joined"].probabilities([(QUESTION, alone["response"])])[0]
    assert len(found.hits) == (probability >= 0.9)
    found.cache.delete()
    found.cache.disconnect()


def test_langchain(run, expected):
    from langchain_core.documents import Document
    from langchain_core.runnables import RunnableLambda

    found = run("LangChain", retriever=RunnableLambda(lambda _: [Document(text) for text in TEXTS]))
    assert [document.page_content for document in found.documents] == [TEXTS[i] for i in expected]
    assert asyncio.run(found.search.ainvoke(QUESTION)) == found.documents


def test_llamaindex(run, expected):
    from llama_index.core.schema import NodeWithScore, TextNode

    nodes = [NodeWithScore(node=TextNode(text=text), score=0.5) for text in TEXTS]
    found = run("LlamaIndex", retriever=SimpleNamespace(retrieve=lambda _: nodes))
    assert [node.text for node in found.nodes] == [TEXTS[i] for i in expected]
    assert {node.metadata["retrieval_score"] for node in found.nodes} == {0.5}


def test_haystack(run):
    from haystack import Document
    from haystack.document_stores.in_memory import InMemoryDocumentStore

    store = InMemoryDocumentStore()
    store.write_documents([Document(content=text) for text in TEXTS])
    found = run("Haystack", document_store=store)
    assert len(found.found) == 3
    assert found.again.dumps() == found.pipeline.dumps()
