import asyncio

import pytest
from langchain_core.cross_encoders import BaseCrossEncoder
from langchain_core.documents import BaseDocumentCompressor, Document
from langchain_core.embeddings import DeterministicFakeEmbedding
from langchain_core.runnables import RunnableLambda, RunnableParallel, RunnablePassthrough
from langchain_core.vectorstores import InMemoryVectorStore
from pydantic import ValidationError

from crosstune.errors import BundleError, ConfigError
from crosstune.integrations.langchain import CrosstuneCompressor, CrosstuneCrossEncoder

QUESTION = "reset the password"
TEXTS = ["download the invoice", "reset your password", "a refund is paid", "export the report of the password"]


def documents(texts=TEXTS):
    return [Document(text, id=f"d{i}", metadata={"page": i}) for i, text in enumerate(texts)]


class TestCrossEncoder:
    def test_one_questions_scores_are_the_rerankers(self, model):
        encoder = CrosstuneCrossEncoder(model)
        assert isinstance(encoder, BaseCrossEncoder)
        scores = encoder.score([(QUESTION, text) for text in TEXTS])
        expected = model.rank(QUESTION, TEXTS)
        assert scores == [item.score for item in sorted(expected, key=lambda item: item.index)]
        assert {type(score) for score in scores} == {float}

    def test_pairs_of_several_questions_come_back_in_input_order(self, scripted):
        pairs = [("q", "a 1"), ("other", "b 5"), ("q", "c 3"), ("other", "d -2")]
        assert CrosstuneCrossEncoder(scripted).score(pairs) == [1.0, 5.0, 3.0, -2.0]
        assert {query for query, _ in scripted.seen} == {"q", "other"}

    def test_no_pairs(self, model):
        assert CrosstuneCrossEncoder(model).score([]) == []

    def test_no_model(self, tmp_path):
        with pytest.raises(BundleError, match="not a crosstune model folder"):
            CrosstuneCrossEncoder(tmp_path)


class TestCompressor:
    def test_order_is_the_rerankers_and_copies_say_how_relevant(self, model):
        given = documents()
        found = CrosstuneCompressor(model=model).compress_documents(given, QUESTION)
        expected = model.rank(QUESTION, TEXTS)
        assert [document.id for document in found] == [f"d{item.index}" for item in expected]
        assert [document.page_content for document in found] == [TEXTS[item.index] for item in expected]
        assert [document.metadata["page"] for document in found] == [item.index for item in expected]
        relevances = [document.metadata["relevance_score"] for document in found]
        assert relevances == sorted(relevances, reverse=True)
        assert given == documents()  # as they were

    def test_relevance_is_the_probability(self, scripted):
        found = CrosstuneCompressor(model=scripted).compress_documents(documents(["a 2", "b 4"]), "q")
        # sigmoid(4 / 2 - 1) and sigmoid(2 / 2 - 1)
        assert [document.metadata["relevance_score"] for document in found] == pytest.approx([0.7311, 0.5], abs=1e-4)
        assert {type(document.metadata["relevance_score"]) for document in found} == {float}

    def test_top_n_and_threshold(self, scripted):
        given = documents(["a 2", "b 4", "c 0", "d 3"])

        def ids(**options):
            return [d.id for d in CrosstuneCompressor(model=scripted, **options).compress_documents(given, "q")]

        assert ids() == ids(top_n=None) == ["d1", "d3", "d0", "d2"]
        assert ids(top_n=2) == ["d1", "d3"]
        assert ids(threshold=0.5) == ["d1", "d3", "d0"]
        assert ids(threshold="answers", top_n=1) == ["d1"]

    def test_from_a_folder(self, folders):
        found = CrosstuneCompressor(model=folders["plain"], top_n=1).compress_documents(documents(), QUESTION)
        assert len(found) == 1

    def test_no_documents(self, model):
        assert CrosstuneCompressor(model=model, threshold=0.5).compress_documents([], QUESTION) == []

    def test_wrong_settings(self, scripted, tmp_path):
        with pytest.raises(ConfigError, match="found 0"):
            CrosstuneCompressor(model=scripted, top_n=0)
        with pytest.raises(ConfigError, match="from 0 to 1"):
            CrosstuneCompressor(model=scripted, threshold=3)
        with pytest.raises(ValidationError, match="top_k"):
            CrosstuneCompressor(model=scripted, top_k=3)
        with pytest.raises(BundleError):
            CrosstuneCompressor(model=tmp_path)

    def test_async_leaves_the_loop_free(self, scripted, ticks_while):
        scripted.delay_s = 0.3
        compressor = CrosstuneCompressor(model=scripted)
        given = documents(["a 2", "b 4"])
        found, ticks = ticks_while(compressor.acompress_documents(given, "q"))
        assert [document.id for document in found] == ["d1", "d0"]
        assert ticks >= 10

    def test_async_calls_at_the_same_time(self, models):
        compressor = CrosstuneCompressor(model=models["joined"])
        queries = [QUESTION, "invoice", "refund", "report"] * 2

        async def all_at_once():
            return await asyncio.gather(*(compressor.acompress_documents(documents(), query) for query in queries))

        expected = [compressor.compress_documents(documents(), query) for query in queries]
        assert asyncio.run(all_at_once()) == expected


def test_behind_a_retriever_in_a_chain(models):
    store = InMemoryVectorStore(DeterministicFakeEmbedding(size=16))
    store.add_documents(documents())
    compressor = CrosstuneCompressor(model=models["joined"], top_n=2)
    assert isinstance(compressor, BaseDocumentCompressor)
    chain = RunnableParallel(
        documents=store.as_retriever(search_kwargs={"k": 4}), query=RunnablePassthrough()
    ) | RunnableLambda(
        lambda found: compressor.compress_documents(**found),
        afunc=lambda found: compressor.acompress_documents(**found),
    )
    expected = [f"d{item.index}" for item in models["joined"].rank(QUESTION, TEXTS)][:2]
    assert [document.id for document in chain.invoke(QUESTION)] == expected
    assert [document.id for document in asyncio.run(chain.ainvoke(QUESTION))] == expected
