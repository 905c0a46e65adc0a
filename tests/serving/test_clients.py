"""What unmodified clients send, field by field, and what each of them needs in the answer.

The requests were rebuilt field by field from what the client packages send; these are not installed here.
"""

import http.client
import json

import pytest

from crosstune.scoring import Reranker

QUERY = "reset the password"
TEXTS = ["download the invoice", "reset your password", "a refund is paid", "export the report"]
OBJECTS = [{"content": text, "id": str(i)} for i, text in enumerate(TEXTS)]
JSON = {"Content-Type": "application/json", "Accept": "application/json"}


@pytest.fixture(scope="module")
def order(model):
    """Indices best first."""
    return [item.index for item in Reranker.load(model).rank(QUERY, TEXTS)]


def post(server, path, body, **headers):
    """The answer's JSON. By the standard library, which sends every header as it is."""
    connection = http.client.HTTPConnection(server.url.removeprefix("http://"), timeout=30)
    connection.request("POST", path, json.dumps(body), JSON | headers)
    response = connection.getresponse()
    found = json.loads(response.read())
    connection.close()
    assert response.status == 200, found
    return found


def check(results, order, name="relevance_score"):
    """All documents are there, in our order, with scores from 0 to 1 that fall."""
    assert [result["index"] for result in results] == order
    scores = [result[name] for result in results]
    assert all(0 <= score <= 1 for score in scores)
    assert scores == sorted(scores, reverse=True)
    assert len(set(scores)) == len(scores)


class TestCohere:
    def test_client_v2(self, server, order):
        body = {"model": "rerank-v3.5", "query": QUERY, "documents": TEXTS, "top_n": None}
        found = post(server, "/v2/rerank", body, Authorization="Bearer some-key")
        check(found["results"], order)
        assert isinstance(found["id"], str)
        assert found["meta"]["api_version"]["version"] == "2"

    @pytest.mark.parametrize("path", ["/v1/rerank", "/v1/v1/rerank"])
    def test_client_v1_with_objects_and_no_model(self, server, order, path):
        body = {"query": QUERY, "documents": OBJECTS, "rank_fields": ["content"], "top_n": 2, "return_documents": True}
        found = post(server, path, body)
        check(found["results"], order[:2])
        assert found["results"][0]["document"]["text"] == TEXTS[order[0]]

    def test_langchain_cohere(self, server, order):
        body = {"model": "m", "query": QUERY, "documents": TEXTS, "top_n": 3, "max_tokens_per_doc": None}
        headers = {"Authorization": "Bearer k", "X-Client-Name": "langchain:partner"}
        check(post(server, "/v2/rerank", body, **headers)["results"], order[:3])

    def test_redisvl(self, server, order):
        body = {
            "model": "rerank-english-v3.0",
            "query": QUERY,
            "documents": OBJECTS,
            "top_n": 4,
            "rank_fields": ["content"],
            "return_documents": False,
            "max_chunks_per_doc": None,
        }
        check(post(server, "/v1/rerank", body, **{"X-Client-Name": "redisvl"})["results"], order)


class TestLiteLlm:
    @pytest.mark.parametrize(
        ("provider", "path"),
        [
            ("cohere", "/v2/rerank"),
            ("hosted_vllm", "/rerank"),
            ("hosted_vllm with a base that ends in /v1", "/v1/rerank"),
            ("jina_ai", "/v1/rerank"),
        ],
    )
    def test_documents_are_objects(self, server, order, provider, path):
        body = {"model": "m", "query": QUERY, "documents": TEXTS, "top_n": 3, "return_documents": True}
        found = post(server, path, body, Authorization="Bearer k")
        check(found["results"], order[:3])
        assert [result["document"] for result in found["results"]] == [{"text": TEXTS[i]} for i in order[:3]]
        assert found["usage"]["total_tokens"] > 0
        assert found["meta"]["billed_units"]["search_units"] == 1

    def test_huggingface(self, server, order):
        body = {
            "query": QUERY,
            "texts": TEXTS,
            "raw_scores": False,
            "truncate": False,
            "truncation_direction": "Right",
            "return_text": True,
            "top_n": 2,
        }
        found = post(server, "/rerank", body)
        check(found, order, "score")
        assert [item["text"] for item in found] == [TEXTS[i] for i in order]


def test_voyage(server, order):
    body = {"query": QUERY, "documents": TEXTS, "model": "rerank-2", "top_k": None, "truncation": True}
    found = post(server, "/rerank", body, Authorization="Bearer k")
    check(found["data"], order)
    assert found["usage"]["total_tokens"] > 0


def test_llamaindex_tei(server, order):
    # The token without "Bearer"; one score for each text is asserted there.
    check(post(server, "/rerank", {"query": QUERY, "texts": TEXTS}, Authorization="k"), order, "score")


def test_open_webui(server, order):
    # An empty key gives a header that ends in a blank. Results are sorted by index and their scores read.
    body = {"model": "m", "query": QUERY, "documents": TEXTS, "top_n": len(TEXTS)}
    results = post(server, "/v1/rerank", body, Authorization="Bearer ")["results"]
    check(results, order)
    assert sorted(result["index"] for result in results) == [0, 1, 2, 3]


def test_ragflow(server, order):
    body = {"model": "m", "query": QUERY, "documents": TEXTS, "top_n": len(TEXTS)}
    check(post(server, "/rerank", body)["results"], order)
    body = {"query": QUERY, "texts": TEXTS, "raw_scores": False, "truncate": True}
    check(post(server, "/rerank", body), order, "score")


def test_dify(server, order):
    check(
        post(server, "/rerank", {"model": "m", "query": QUERY, "documents": TEXTS, "top_n": 4})["results"],
        order,
    )
    info = server.client.get("/info").json()
    assert "reranker" in info["model_type"]
    assert info["max_input_length"] > 0
    assert info["max_client_batch_size"] > 0
    found = post(server, "/rerank", {"query": QUERY, "texts": TEXTS, "return_text": True})
    assert {item["text"] for item in found} == set(TEXTS)


def test_the_frameworks_may_post_without_a_content_type(server, order):
    # curl -d says it sends a form.
    connection = http.client.HTTPConnection(server.url.removeprefix("http://"), timeout=30)
    headers = {"Content-Type": "application/x-www-form-urlencoded"}
    connection.request("POST", "/v1/rerank", json.dumps({"query": QUERY, "documents": TEXTS}), headers)
    check(json.loads(connection.getresponse().read())["results"], order)
    connection.close()
