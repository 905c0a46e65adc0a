import asyncio
import json
import threading

import pytest
from haystack import Document, Pipeline
from haystack.components.retrievers.in_memory import InMemoryBM25Retriever
from haystack.core.errors import DeserializationError
from haystack.document_stores.in_memory import InMemoryDocumentStore

from crosstune.errors import BundleError, ConfigError
from crosstune.integrations import haystack as module
from crosstune.integrations.haystack import CrosstuneRanker
from crosstune.scoring import Reranker

QUESTION = "reset the password"
TEXTS = ["download the invoice", "reset your password", "a refund is paid", "export the report of the password"]
SCORES = [0.9, 0.1, 0.4, 0.7]


def documents(texts=TEXTS, scores=(None,) * 4):
    return [
        Document(id=f"d{i}", content=text, meta={"page": i}, score=score)
        for i, (text, score) in enumerate(zip(texts, scores, strict=False))
    ]


def ids(found):
    return [document.id for document in found["documents"]]


@pytest.mark.parametrize("scores", [(None,) * 4, SCORES])
def test_order_is_the_rerankers(model, scores):
    given = documents(scores=scores)
    found = CrosstuneRanker(model).run(QUESTION, given)
    expected = model.rank(QUESTION, TEXTS, None if scores[0] is None else scores)
    assert ids(found) == [f"d{item.index}" for item in expected]
    values = [document.score for document in found["documents"]]
    assert values == sorted(values, reverse=True)
    assert [document.meta for document in found["documents"]] == [{"page": item.index} for item in expected]
    assert given == documents(scores=scores)  # as they were


def test_the_score_is_the_probability_as_a_plain_float(scripted):
    found = CrosstuneRanker(scripted).run("q", documents(["a 2", "b 4"]))["documents"]
    assert [document.score for document in found] == pytest.approx([0.7311, 0.5], abs=1e-4)
    assert json.loads(json.dumps([document.to_dict() for document in found]))[0]["score"] == found[0].score


def test_top_k_and_threshold_of_the_component_and_of_the_call(scripted):
    given = documents(["a 2", "b 4", "c 0", "d 3"])
    ranker = CrosstuneRanker(scripted, top_k=3, threshold=0.3)
    assert ids(ranker.run("q", given)) == ["d1", "d3", "d0"]
    assert ids(ranker.run("q", given, top_k=1)) == ["d1"]
    assert ids(ranker.run("q", given, threshold=0.7)) == ["d1"]
    assert ids(ranker.run("q", given, threshold="answers")) == ["d1", "d3"]
    assert ids(CrosstuneRanker(scripted, top_k=None).run("q", given)) == ["d1", "d3", "d0", "d2"]


def test_what_occurs_twice_is_kept_twice(scripted):
    one = documents(["a 2"])[0]
    assert ids(CrosstuneRanker(scripted).run("q", [one, one])) == ["d0", "d0"]


def test_no_documents(model):
    assert CrosstuneRanker(model).run(QUESTION, []) == {"documents": []}


def test_a_document_without_text_is_named(scripted):
    given = [*documents(["a 2"]), Document(id="picture", content=None)]
    with pytest.raises(ConfigError, match=r"document 1 \(id picture\) has no text"):
        CrosstuneRanker(scripted).run("q", given)


def test_wrong_settings(scripted):
    with pytest.raises(ConfigError, match="found 0"):
        CrosstuneRanker(scripted, top_k=0)
    with pytest.raises(ConfigError, match="from 0 to 1"):
        CrosstuneRanker("nowhere", threshold="sure")
    with pytest.raises(ConfigError, match="found -1"):
        CrosstuneRanker(scripted).run("q", documents(["a 2"]), top_k=-1)


class TestLoading:
    def test_happens_in_warm_up_or_at_the_first_run_and_once(self, folders, monkeypatch):
        loaded = []
        monkeypatch.setattr(module, "opened", lambda path: loaded.append(path) or Reranker.load(path))
        ranker = CrosstuneRanker(folders["plain"])
        assert loaded == []
        threads = [threading.Thread(target=ranker.run, args=(QUESTION, documents())) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        ranker.warm_up()
        assert loaded == [str(folders["plain"])]

    def test_of_no_model(self, tmp_path):
        ranker = CrosstuneRanker(tmp_path)
        with pytest.raises(BundleError, match="not a crosstune model folder"):
            ranker.warm_up()


class TestSaving:
    def test_a_loaded_model_is_saved_as_its_path(self, folders, models):
        saved = CrosstuneRanker(models["plain"], top_k=3, threshold="answers").to_dict()
        assert saved == {
            "type": "crosstune.integrations.haystack.CrosstuneRanker",
            "init_parameters": {"model": str(folders["plain"]), "top_k": 3, "threshold": "answers"},
        }
        assert CrosstuneRanker.from_dict(saved).to_dict() == saved
        assert ids(CrosstuneRanker.from_dict(saved).run(QUESTION, [])) == []

    def test_a_pipeline_in_yaml_and_back(self, folders):
        text = pipeline(folders["joined"]).dumps()
        again = Pipeline.loads(text, allowed_modules=["crosstune.*"])
        assert again.dumps() == text
        # Haystack trusts no module that its user does not name.
        with pytest.raises(DeserializationError, match="crosstune"):
            Pipeline.loads(text)


# Kept: a store waits for its threads when it is collected, and where that happens while a new thread begins, as the
# garbage collector likes, Python 3.11 waits for ever.
STORES = []


def pipeline(model):
    store = InMemoryDocumentStore()
    STORES.append(store)
    store.write_documents(documents())
    made = Pipeline()
    made.add_component("retriever", InMemoryBM25Retriever(store, top_k=4))
    made.add_component("ranker", CrosstuneRanker(model, top_k=2))
    made.connect("retriever", "ranker")
    return made


INPUTS = {"retriever": {"query": QUESTION}, "ranker": {"query": QUESTION}}


class TestInAPipeline:
    def expected(self, model):
        found = pipeline(model).get_component("retriever").run(QUESTION)["documents"]
        ranked = model.rank(QUESTION, [document.content for document in found], [d.score for d in found])
        return [found[item.index].id for item in ranked][:2]

    def test_run(self, model):
        assert ids(pipeline(model).run(INPUTS)["ranker"]) == self.expected(model)

    def test_run_async(self, model):
        assert ids(asyncio.run(pipeline(model).run_async(INPUTS))["ranker"]) == self.expected(model)

    def test_the_model_is_loaded_by_the_pipeline(self, folders, models):
        assert ids(pipeline(folders["plain"]).run(INPUTS)["ranker"]) == self.expected(models["plain"])


def test_async_leaves_the_loop_free(scripted, ticks_while):
    scripted.delay_s = 0.3
    found, ticks = ticks_while(CrosstuneRanker(scripted).run_async("q", documents(["a 2", "b 4"])))
    assert ids(found) == ["d1", "d0"]
    assert ticks >= 10


def test_async_calls_at_the_same_time(models):
    ranker = CrosstuneRanker(models["joined"])
    queries = [QUESTION, "invoice", "refund", "report"] * 2

    async def all_at_once():
        return await asyncio.gather(*(ranker.run_async(query, documents()) for query in queries))

    expected = [ids(ranker.run(query, documents())) for query in queries]
    assert [ids(found) for found in asyncio.run(all_at_once())] == expected
