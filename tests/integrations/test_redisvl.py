import asyncio
import math
import threading
from types import SimpleNamespace

import numpy as np
import pytest
from pydantic import ValidationError
from redisvl.index import AsyncSearchIndex, SearchIndex
from redisvl.query import CountQuery, FilterQuery, HybridQuery, TextQuery, VectorQuery, VectorRangeQuery
from redisvl.query.filter import Tag
from redisvl.schema import IndexSchema
from redisvl.utils.rerank import BaseReranker

from crosstune.errors import BundleError, ConfigError
from crosstune.integrations.redisvl import CrosstuneReranker, aretrieve_and_rerank, retrieve_and_rerank

QUESTION = "reset the password"
TEXTS = ["download the invoice", "reset your password", "a refund is paid", "export the report of the password"]


def docs(texts=TEXTS, **fields):
    return [{"id": f"doc:{i}", "content": text, **fields} for i, text in enumerate(texts)]


def ids(found):
    return [doc["id"] for doc in found]


class TestRank:
    def test_order_and_scores_are_the_rerankers(self, model):
        reranker = CrosstuneReranker(model)
        assert isinstance(reranker, BaseReranker)
        given = docs()
        found, scores = reranker.rank(QUESTION, given)
        expected = model.rank(QUESTION, TEXTS)
        assert ids(found) == [f"doc:{item.index}" for item in expected]
        assert scores == [item.score for item in expected] == [doc["rerank_score"] for doc in found]
        assert [doc["rerank_probability"] for doc in found] == [item.probability for item in expected]
        assert [doc["rank"] for doc in found] == [1, 2, 3, 4]
        assert {type(score) for score in scores} == {float}
        assert given == docs()  # as they were

    def test_a_copy_keeps_all_that_the_document_had(self, scripted):
        (found,) = CrosstuneReranker(scripted, return_score=False).rank("q", docs(["a 2"], vector_distance="0.25"))
        # sigmoid(2 / 2 - 1)
        assert found == {
            "id": "doc:0",
            "content": "a 2",
            "vector_distance": "0.25",
            "rerank_score": 2.0,
            "rerank_probability": 0.5,
            "rank": 1,
        }

    def test_texts_come_back_as_content(self, scripted):
        found, scores = CrosstuneReranker(scripted).rank("q", ["a 2", "b 4"])
        assert [doc["content"] for doc in found] == ["b 4", "a 2"]
        assert scores == [4.0, 2.0]

    def test_no_documents(self, model):
        reranker = CrosstuneReranker(model, threshold=0.5)
        assert reranker.rank(QUESTION, []) == ([], [])
        assert reranker.rank(QUESTION, [], return_score=False) == []


class TestTextFields:
    def test_several_are_joined_by_a_blank_in_their_order(self, scripted):
        given = [{"title": "Refund", "body": "paid 3"}, {"title": "", "body": "late 1"}]
        CrosstuneReranker(scripted, rank_by=["title", "body"]).rank("q", given)
        assert scripted.seen == [("q", "Refund paid 3"), ("q", "late 1")]

    def test_one_may_be_given_as_a_name(self, scripted):
        reranker = CrosstuneReranker(scripted, rank_by="body")
        assert reranker.rank_by == ["body"]
        assert reranker.rank("q", [{"body": "a 1"}])[1] == [1.0]

    @pytest.mark.parametrize("value", [None, b"bytes 1", 7, ["a 1"]])
    def test_what_is_no_text_is_told(self, scripted, value):
        with pytest.raises(ConfigError, match=r"document 0 has no text in content; its keys are content"):
            CrosstuneReranker(scripted).rank("q", [{"content": value}])

    def test_a_document_without_it_is_named_and_not_dropped(self, scripted):
        given = [{"id": "a", "title": "A", "content": "a 1"}, {"id": "b", "text": "b 2"}]
        with pytest.raises(ConfigError, match=r"document 1 has no text in title, content; its keys are id, text;"):
            CrosstuneReranker(scripted, rank_by=["title", "content"]).rank("q", given)
        assert scripted.seen == []

    def test_neither_text_nor_dict(self, scripted):
        with pytest.raises(ConfigError, match="document 1 must be a text or a dict, found tuple"):
            CrosstuneReranker(scripted).rank("q", ["a 1", ("b", 2)])
        with pytest.raises(ConfigError, match="found one text"):
            CrosstuneReranker(scripted).rank("q", "a 1")


class TestOverrides:
    given = docs(["a 2", "b 4", "c 0", "d 3"])

    def test_limit(self, scripted):
        reranker = CrosstuneReranker(scripted, limit=2)
        assert ids(reranker.rank("q", self.given)[0]) == ["doc:1", "doc:3"]
        assert ids(reranker.rank("q", self.given, limit=3)[0]) == ["doc:1", "doc:3", "doc:0"]

    def test_return_score(self, scripted):
        reranker = CrosstuneReranker(scripted, return_score=False)
        assert ids(reranker.rank("q", self.given)) == ["doc:1", "doc:3", "doc:0", "doc:2"]
        assert reranker.rank("q", self.given, return_score=True)[1] == [4.0, 3.0, 2.0, 0.0]

    def test_threshold(self, scripted):
        reranker = CrosstuneReranker(scripted, threshold="answers")  # 0.6
        assert ids(reranker.rank("q", self.given)[0]) == ["doc:1", "doc:3"]
        assert ids(reranker.rank("q", self.given, threshold=0.7)[0]) == ["doc:1"]
        assert len(reranker.rank("q", self.given, threshold=None)[0]) == 4

    @pytest.mark.parametrize("rank_by", ["body", ["body"]])
    def test_rank_by(self, scripted, rank_by):
        CrosstuneReranker(scripted).rank("q", [{"content": "a 1", "body": "b 2"}], rank_by=rank_by)
        assert scripted.seen == [("q", "b 2")]

    def test_unknown_ones_are_an_error(self, scripted):
        with pytest.raises(
            ConfigError, match="unknown option top_k, truncation; choose from first_stage_scores, limit"
        ):
            CrosstuneReranker(scripted).rank("q", self.given, truncation=True, top_k=3)


def test_wrong_settings(scripted, tmp_path):
    with pytest.raises(ValidationError, match="Limit must be a positive integer"):
        CrosstuneReranker(scripted, limit=0)
    with pytest.raises(ConfigError, match="from 0 to 1"):
        CrosstuneReranker(scripted, threshold=2)
    with pytest.raises(ConfigError, match="found 0"):
        CrosstuneReranker(scripted).rank("q", ["a 1"], limit=0)
    with pytest.raises(BundleError, match="not a crosstune model folder"):
        CrosstuneReranker(tmp_path)


def test_from_a_path(folders):
    for path in (folders["plain"], str(folders["plain"]), folders["plain"].parent):
        reranker = CrosstuneReranker(path)
        assert reranker.model == str(folders["plain"])
        assert len(reranker.rank(QUESTION, TEXTS)[0]) == 4


class TestFirstStage:
    distances = ("0.1", "0.9", "0.5", "0.3")  # as Redis gives them, nearest first is 0, 3, 2, 1
    closeness = (-0.1, -0.9, -0.5, -0.3)

    def given(self):
        return [{**doc, "vector_distance": distance} for doc, distance in zip(docs(), self.distances, strict=True)]

    def test_distances_count_turned_round(self, models):
        model = models["with first stage"]
        found, scores = CrosstuneReranker(model).rank(QUESTION, self.given())
        expected = model.rank(QUESTION, TEXTS, self.closeness)
        assert ids(found) == [f"doc:{item.index}" for item in expected]
        assert scores == pytest.approx([item.score for item in expected])
        assert scores != pytest.approx([item.score for item in model.rank(QUESTION, TEXTS)])

    def test_not_when_one_is_missing_or_no_number(self, models):
        model = models["with first stage"]
        expected = [item.score for item in model.rank(QUESTION, TEXTS)]
        without, broken = self.given(), self.given()
        del without[2]["vector_distance"]
        broken[2]["vector_distance"] = "nan"  # what Redis gives for a vector of zeros
        for given in (without, broken):
            assert CrosstuneReranker(model).rank(QUESTION, given)[1] == pytest.approx(expected)

    def test_given_scores_go_first(self, models):
        model = models["with first stage"]
        scores = [0.0, 5.0, 1.0, 2.0]
        found = CrosstuneReranker(model).rank(QUESTION, self.given(), first_stage_scores=scores)[1]
        assert found == pytest.approx([item.score for item in model.rank(QUESTION, TEXTS, scores)])


class TestAsync:
    def test_leaves_the_loop_free(self, scripted, ticks_while):
        scripted.delay_s = 0.3
        (found, scores), ticks = ticks_while(CrosstuneReranker(scripted).arank("q", docs(["a 2", "b 4"]), limit=1))
        assert (ids(found), scores) == (["doc:1"], [4.0])
        assert ticks >= 10

    def test_calls_at_the_same_time(self, models):
        reranker = CrosstuneReranker(models["joined"])
        queries = [QUESTION, "invoice", "refund", "report"] * 2

        async def all_at_once():
            return await asyncio.gather(*(reranker.arank(query, docs()) for query in queries))

        assert asyncio.run(all_at_once()) == [reranker.rank(query, docs()) for query in queries]

    def test_an_error_comes_through(self, scripted):
        with pytest.raises(ConfigError, match="unknown option top_k"):
            asyncio.run(CrosstuneReranker(scripted).arank("q", ["a 1"], top_k=1))


SCHEMA = {
    "index": {"name": "faq", "prefix": "faq", "storage_type": "hash"},
    "fields": [
        {"name": "content", "type": "text"},
        {"name": "topic", "type": "tag"},
        {"name": "embedding", "type": "vector", "attrs": {"dims": 2, "algorithm": "flat", "distance_metric": "cosine"}},
    ],
}
# Unit vectors at 0, 10, 20 ... degrees: the nearer to (1, 0), the lower the number.
N_DOCS = 9


def angle(degrees):
    return [math.cos(math.radians(degrees)), math.sin(math.radians(degrees))]


class TestDeeperQueries:
    """What is asked of the index, without one."""

    @pytest.fixture
    def index(self):
        asked = []

        def query(found):
            asked.append(found)
            return docs(["a 2", "b 4"])

        return SimpleNamespace(schema=IndexSchema.from_dict(SCHEMA), query=query, asked=asked)

    def test_the_users_query_is_left_as_it_is(self, scripted, index):
        query = VectorQuery([1.0, 0.0], "embedding", return_fields=["topic"], num_results=3)
        before = (str(query), list(query._return_fields))
        found, _ = retrieve_and_rerank(index, query, CrosstuneReranker(scripted), "q")
        assert ids(found) == ["doc:1", "doc:0"]
        (asked,) = index.asked
        assert (str(query), query._return_fields) == before
        assert "KNN 50 @embedding" in str(asked)
        assert str(asked).endswith("LIMIT 0 50")
        assert asked._return_fields == ["topic", "vector_distance", "content"]

    def test_text_that_is_asked_for_is_not_asked_for_twice(self, scripted, index):
        query = VectorQuery([1.0, 0.0], "embedding", return_fields=["content"])
        retrieve_and_rerank(index, query, CrosstuneReranker(scripted), "q", depth=20)
        assert index.asked[0]._return_fields == ["content", "vector_distance"]
        assert "KNN 20" in str(index.asked[0])

    def test_a_query_for_more_than_depth_is_not_made_shallower(self, scripted, index):
        query = TextQuery("refund", "content", num_results=80)
        retrieve_and_rerank(index, query, CrosstuneReranker(scripted), "q")
        assert str(index.asked[0]).endswith("LIMIT 0 80")

    @pytest.mark.parametrize(
        ("storage", "query", "fields"),
        [
            ("hash", TextQuery("refund", "content"), []),
            ("json", TextQuery("refund", "content"), ["content"]),
            ("json", FilterQuery(), []),
        ],
    )
    def test_a_query_without_fields(self, scripted, index, storage, query, fields):
        index.schema = IndexSchema.from_dict({**SCHEMA, "index": {**SCHEMA["index"], "storage_type": storage}})
        retrieve_and_rerank(index, query, CrosstuneReranker(scripted), "q")
        assert index.asked[0]._return_fields == fields

    @pytest.mark.filterwarnings("ignore:Hybrid.* is an experimental")
    def test_queries_that_cannot_be_made_deeper(self, scripted, index):
        hybrid = HybridQuery("refund", "content", [1.0, 0.0], "embedding")
        for query in (hybrid, CountQuery("*"), "refund"):
            with pytest.raises(ConfigError, match=r"num_results=50 and the fields content"):
                retrieve_and_rerank(index, query, CrosstuneReranker(scripted), "q")
        with pytest.raises(ConfigError, match="depth must be at least 1, found 0"):
            retrieve_and_rerank(index, FilterQuery(), CrosstuneReranker(scripted), "q", depth=0)
        assert index.asked == []


@pytest.fixture(scope="module")
def index(redis_url):
    """Nine documents; the farther from the query vector, the higher the number, which is the scripted logit."""
    found = SearchIndex.from_dict(SCHEMA, redis_url=redis_url)
    found.create(overwrite=True)
    found.load(
        [
            {
                "id": str(i),
                "content": f"refund of invoice {i}",
                "topic": "even" if i % 2 == 0 else "odd",
                "embedding": np.array(angle(10 * i), np.float32).tobytes(),
            }
            for i in range(N_DOCS)
        ],
        id_field="id",
    )
    yield found
    found.delete(drop=True)
    found.disconnect()


class TestRealRedis:
    def vector_query(self, **options):
        return VectorQuery(angle(0), "embedding", **{"return_fields": ["topic"], "num_results": 2, **options})

    def test_what_the_search_alone_ranks_low_comes_up(self, scripted, index):
        reranker = CrosstuneReranker(scripted, limit=3)
        query = self.vector_query()
        assert [doc["topic"] for doc in index.query(query)] == ["even", "odd"]  # documents 0 and 1
        found, scores = retrieve_and_rerank(index, query, reranker, "refund?")
        assert ids(found) == ["faq:8", "faq:7", "faq:6"]
        assert scores == [8.0, 7.0, 6.0]
        assert [doc["topic"] for doc in found] == ["even", "odd", "even"]
        # Cosine distance at 80 degrees: 1 - cos(80 degrees)
        assert float(found[0]["vector_distance"]) == pytest.approx(0.82635, abs=1e-4)

    def test_depth_and_filter_hold(self, scripted, index):
        reranker = CrosstuneReranker(scripted)
        query = self.vector_query(filter_expression=Tag("topic") == "odd")
        assert ids(retrieve_and_rerank(index, query, reranker, "q", depth=3)[0]) == ["faq:5", "faq:3", "faq:1"]

    def test_range_text_and_filter_queries(self, scripted, index):
        reranker = CrosstuneReranker(scripted, limit=2)
        # 1 - cos(30 degrees) = 0.134 and 1 - cos(40 degrees) = 0.234
        near = VectorRangeQuery(angle(0), "embedding", distance_threshold=0.2, num_results=1)
        assert ids(retrieve_and_rerank(index, near, reranker, "q")[0]) == ["faq:3", "faq:2"]
        text = TextQuery("refund", "content", num_results=1)
        assert ids(retrieve_and_rerank(index, text, reranker, "q")[0]) == ["faq:8", "faq:7"]
        even = FilterQuery(Tag("topic") == "even", return_fields=["topic"], num_results=1)
        assert ids(retrieve_and_rerank(index, even, reranker, "q")[0]) == ["faq:8", "faq:6"]

    @pytest.mark.parametrize("normalised", [False, True])
    def test_near_is_good_however_the_query_puts_it(self, models, index, normalised):
        model = models["with first stage"]
        query = self.vector_query(normalize_vector_distance=normalised)
        found, scores = retrieve_and_rerank(index, query, CrosstuneReranker(model, limit=9), "refund")
        # All similarities are affine in the cosine, and standardised before they are joined.
        texts = [f"refund of invoice {i}" for i in range(N_DOCS)]
        expected = model.rank("refund", texts, [angle(10 * i)[0] for i in range(N_DOCS)])
        assert ids(found) == [f"faq:{item.index}" for item in expected]
        assert scores == pytest.approx([item.score for item in expected], abs=1e-3)

    def test_the_score_of_a_text_query_counts(self, models, index):
        model = models["with first stage"]
        query = TextQuery("refund 3", "content", num_results=9, return_fields=["content"])
        plain = index.query(query)
        assert len({doc["score"] for doc in plain}) > 1
        found, scores = retrieve_and_rerank(index, query, CrosstuneReranker(model, limit=9), "refund")
        expected = model.rank("refund", [doc["content"] for doc in plain], [doc["score"] for doc in plain])
        assert ids(found) == [plain[item.index]["id"] for item in expected]
        assert scores == pytest.approx([item.score for item in expected])

    def test_nothing_found(self, scripted, index):
        query = self.vector_query(filter_expression=Tag("topic") == "none")
        assert retrieve_and_rerank(index, query, CrosstuneReranker(scripted), "q") == ([], [])

    def test_async_gives_the_same(self, models, scripted, index, redis_url, ticks_while):
        async def search(reranker, query):
            async with AsyncSearchIndex.from_dict(SCHEMA, redis_url=redis_url) as found:
                return await aretrieve_and_rerank(found, query, reranker, "refund", depth=6, limit=4)

        for reranker in map(CrosstuneReranker, (models["with first stage"], models["joined"])):
            for query in (self.vector_query(normalize_vector_distance=True), TextQuery("refund 3", "content")):
                expected = retrieve_and_rerank(index, query, reranker, "refund", depth=6, limit=4)
                found = asyncio.run(search(reranker, query))
                assert ids(found[0]) == ids(expected[0])
                assert found[1] == pytest.approx(expected[1])
        scripted.delay_s = 0.3
        found, ticks = ticks_while(search(CrosstuneReranker(scripted), self.vector_query()))
        assert ids(found[0]) == ["faq:5", "faq:4", "faq:3", "faq:2"]
        assert ticks >= 10


def test_threads_of_a_server_get_what_one_gets(models):
    reranker = CrosstuneReranker(models["joined"])
    expected, found = reranker.rank(QUESTION, docs()), []
    threads = [threading.Thread(target=lambda: found.append(reranker.rank(QUESTION, docs()))) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [expected] * 6
