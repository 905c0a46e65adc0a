import asyncio
import json

import pytest
from llama_index.core import QueryBundle
from llama_index.core.base.base_retriever import BaseRetriever
from llama_index.core.llms import MockLLM
from llama_index.core.postprocessor import SimilarityPostprocessor
from llama_index.core.query_engine import RetrieverQueryEngine
from llama_index.core.response_synthesizers import ResponseMode, get_response_synthesizer
from llama_index.core.schema import MetadataMode, NodeWithScore, TextNode

from crosstune.errors import BundleError, ConfigError
from crosstune.integrations.llamaindex import CrosstuneRerank

QUESTION = "reset the password"
TEXTS = ["download the invoice", "reset your password", "a refund is paid", "export the report of the password"]
SCORES = [0.9, 0.1, 0.4, 0.7]


def nodes(texts=TEXTS, scores=(None,) * 4):
    return [
        NodeWithScore(node=TextNode(id_=f"n{i}", text=text, metadata={"page": f"{i}"}), score=score)
        for i, (text, score) in enumerate(zip(texts, scores, strict=False))
    ]


def ids(found):
    return [node.node_id for node in found]


@pytest.mark.parametrize("scores", [(None,) * 4, SCORES])
def test_order_is_the_rerankers(model, scores):
    found = CrosstuneRerank(model).postprocess_nodes(nodes(scores=scores), query_str=QUESTION)
    expected = model.rank(QUESTION, TEXTS, None if scores[0] is None else scores)
    assert ids(found) == [f"n{item.index}" for item in expected]
    values = [node.score for node in found]
    assert values == sorted(values, reverse=True)


def test_the_score_is_the_probability_as_a_plain_float(scripted):
    given = nodes(["a 2", "b 4"], SCORES)
    found = CrosstuneRerank(scripted).postprocess_nodes(given, query_bundle=QueryBundle("q"))
    assert [node.score for node in found] == pytest.approx([0.7311, 0.5], abs=1e-4)
    assert [item["score"] for item in json.loads(json.dumps([node.to_dict() for node in found]))] == [
        node.score for node in found
    ]
    assert [node.score for node in given] == SCORES[:2]  # as they were


def test_one_node_without_a_score_and_none_counts(models):
    found = CrosstuneRerank(models["with first stage"]).postprocess_nodes(
        nodes(scores=[0.9, None, 0.4, 0.7]), query_str=QUESTION
    )
    assert ids(found) == [f"n{item.index}" for item in models["with first stage"].rank(QUESTION, TEXTS)]


def test_top_n_and_threshold(scripted):
    given = nodes(["a 2", "b 4", "c 0", "d 3"])

    def kept(**options):
        return ids(CrosstuneRerank(scripted, **options).postprocess_nodes(given, query_str="q"))

    assert kept() == kept(top_n=None) == ["n1", "n3", "n0", "n2"]
    assert kept(top_n=2) == ["n1", "n3"]
    assert kept(threshold=0.5) == ["n1", "n3", "n0"]
    assert kept(threshold="answers") == ["n1", "n3"]


def test_the_retrieval_score_is_kept_where_no_model_reads_it(scripted):
    given = nodes(["a 2", "b 4"], SCORES)
    (found, _) = CrosstuneRerank(scripted, keep_retrieval_score=True).postprocess_nodes(given, query_str="q")
    assert found.node.metadata == {"page": "1", "retrieval_score": 0.1}
    for mode in (MetadataMode.LLM, MetadataMode.EMBED):
        assert found.node.get_content(mode) == "page: 1\n\nb 4"
    assert [node.node.metadata for node in given] == [{"page": "0"}, {"page": "1"}]


def test_text_is_read_without_metadata_unless_asked(scripted):
    CrosstuneRerank(scripted).postprocess_nodes(nodes(["a 2"]), query_str="q")
    CrosstuneRerank(scripted, metadata_mode=MetadataMode.EMBED).postprocess_nodes(nodes(["a 2"]), query_str="q")
    assert scripted.seen == [("q", "a 2"), ("q", "page: 0\n\na 2")]


def test_no_question(scripted):
    with pytest.raises(ConfigError, match="query_str or query_bundle"):
        CrosstuneRerank(scripted).postprocess_nodes(nodes())


def test_no_nodes(model):
    assert CrosstuneRerank(model).postprocess_nodes([], query_str=QUESTION) == []


def test_wrong_settings(scripted, tmp_path):
    with pytest.raises(ConfigError, match="found 0"):
        CrosstuneRerank(scripted, top_n=0)
    with pytest.raises(ConfigError, match="from 0 to 1"):
        CrosstuneRerank(scripted, threshold=-1)
    with pytest.raises(BundleError):
        CrosstuneRerank(tmp_path)


def test_is_saved_and_made_again(folders, models):
    saved = CrosstuneRerank(models["plain"], top_n=2, threshold="answers").to_dict()
    assert saved == {
        "model": str(folders["plain"]),
        "top_n": 2,
        "threshold": "answers",
        "keep_retrieval_score": False,
        "metadata_mode": "none",
        "class_name": "CrosstuneRerank",
    }
    again = CrosstuneRerank.from_json(json.dumps(saved, default=str))
    assert again.to_dict() == saved
    assert len(CrosstuneRerank.from_dict({**saved, "threshold": None}).postprocess_nodes(nodes(), query_str="q")) == 2


def test_async_leaves_the_loop_free(scripted, ticks_while):
    scripted.delay_s = 0.3
    found, ticks = ticks_while(CrosstuneRerank(scripted).apostprocess_nodes(nodes(["a 2", "b 4"]), query_str="q"))
    assert ids(found) == ["n1", "n0"]
    assert ticks >= 10


def test_async_calls_at_the_same_time(models):
    reranker = CrosstuneRerank(models["joined"])
    queries = [QUESTION, "invoice", "refund", "report"] * 2

    async def all_at_once():
        return await asyncio.gather(*(reranker.apostprocess_nodes(nodes(), query_str=query) for query in queries))

    expected = [ids(reranker.postprocess_nodes(nodes(), query_str=query)) for query in queries]
    assert [ids(found) for found in asyncio.run(all_at_once())] == expected


class _Fixed(BaseRetriever):
    """Always the same nodes."""

    def _retrieve(self, query_bundle):
        return nodes(scores=SCORES)


def test_inside_a_query_engine(models):
    engine = RetrieverQueryEngine(
        _Fixed(),
        get_response_synthesizer(llm=MockLLM(), response_mode=ResponseMode.COMPACT),
        node_postprocessors=[
            CrosstuneRerank(models["joined"], top_n=3),
            SimilarityPostprocessor(similarity_cutoff=1e-9),  # reads the scores
        ],
    )
    expected = [f"n{item.index}" for item in models["joined"].rank(QUESTION, TEXTS)][:3]
    assert ids(engine.query(QUESTION).source_nodes) == expected
    assert ids(asyncio.run(engine.aquery(QUESTION)).source_nodes) == expected
