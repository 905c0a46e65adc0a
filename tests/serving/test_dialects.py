"""Requests to our words and rankings to theirs, without a server."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crosstune.serving.dialects import DIALECTS, Envelope, Ranked, Ranking, dialect_of
from crosstune.serving.refusal import Reason, Refusal

ENVELOPE = Envelope("id-1", "/v1/rerank", "tiny")
RANKING = Ranking((Ranked(1, 0.9), Ranked(2, 0.4), Ranked(0, 0.1)), 3, 42, ())
TEXTS = ["a", "b", "c"]
BODIES = {
    "tei": {"query": "q", "texts": TEXTS},
    "voyage": {"query": "q", "documents": TEXTS, "top_k": None},
    "cohere": {"query": "q", "documents": TEXTS},
}
DOCUMENTS = {"tei": "texts", "voyage": "documents", "cohere": "documents"}


def read(body):
    return dialect_of(body).read(body)


def answer(body, ranking=RANKING, path="/v1/rerank"):
    dialect = dialect_of(body)
    return dialect.answer(dialect.read(body), ranking, Envelope("id-1", path, "tiny"))


@pytest.mark.parametrize("name", BODIES)
class TestEvery:
    def test_is_told_by_its_fields(self, name):
        assert dialect_of(BODIES[name]).name == name

    def test_reads_the_least(self, name):
        request = read(BODIES[name])
        assert (request.query, request.texts) == ("q", ("a", "b", "c"))
        assert (request.top_n, request.first_stage_scores) == (None, None)
        assert (request.return_documents, request.raw_scores) == (False, False)

    def test_null_is_absent_and_unknown_fields_are_passed_over(self, name):
        known = dialect_of(BODIES[name]).schema["properties"]
        rest = dict.fromkeys([*known, "max_chunks_per_doc", "priority", "user"])
        assert read(rest | BODIES[name]) == read(BODIES[name])

    def test_the_schema_names_what_is_required(self, name):
        assert set(dialect_of(BODIES[name]).schema["required"]) == {"query", DOCUMENTS[name]}

    @pytest.mark.parametrize("query", [None, 1, True, ["q"], {"text": "q"}])
    def test_a_query_that_is_no_text(self, name, query):
        with pytest.raises(Refusal, match='"query" must be text, found') as caught:
            read(BODIES[name] | {"query": query})
        assert caught.value.reason is Reason.INVALID

    @pytest.mark.parametrize("documents", [None, "a", 1, {"a": "b"}])
    def test_documents_that_are_no_list(self, name, documents):
        with pytest.raises(Refusal, match=f'"{DOCUMENTS[name]}" must be a list, found'):
            read(BODIES[name] | {DOCUMENTS[name]: documents})

    def test_no_documents(self, name):
        with pytest.raises(Refusal, match="send at least one document") as caught:
            read(BODIES[name] | {DOCUMENTS[name]: []})
        assert caught.value.reason is Reason.EMPTY

    @pytest.mark.parametrize("document", [None, 7, ["b"], True])
    def test_a_document_that_is_none(self, name, document):
        with pytest.raises(Refusal, match=rf'"{DOCUMENTS[name]}\[1\]" must be text'):
            read(BODIES[name] | {DOCUMENTS[name]: ["a", document]})

    def test_first_stage_scores(self, name):
        assert read(BODIES[name] | {"first_stage_scores": [1, 2.5, -3]}).first_stage_scores == (1.0, 2.5, -3.0)

    @pytest.mark.parametrize(
        "scores", [[1, 2], [1, 2, "3"], [1, 2, None], [1, 2, True], [1, 2, float("inf")], 3, [1, 2, 10**400]]
    )
    def test_first_stage_scores_that_do_not_fit(self, name, scores):
        with pytest.raises(Refusal, match="first_stage_scores") as caught:
            read(BODIES[name] | {"first_stage_scores": scores})
        assert caught.value.reason is Reason.INVALID

    def test_every_refusal_has_a_body_and_a_status(self, name):
        for reason in Reason:
            status, content = dialect_of(BODIES[name]).error(Refusal(reason, "what to do"), ENVELOPE)
            assert 400 <= status < 600
            assert "what to do" in content.values()


_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["text", "a"]), inner, max_size=2),
    max_leaves=8,
)
_FIELDS = sorted({field for dialect in DIALECTS for field in dialect.schema["properties"]})


@settings(max_examples=500, deadline=None, derandomize=True)
@given(st.dictionaries(st.sampled_from(_FIELDS), _VALUES), st.booleans())
def test_any_body_is_read_or_refused(body, filled):
    if filled:  # Else few bodies come past the query.
        body = {"query": "q", "documents": TEXTS} | body
    reason = None
    try:
        texts = read(body).texts
    except Refusal as refusal:
        reason, texts = refusal.reason, ("refused",)
    assert reason in (None, Reason.EMPTY, Reason.INVALID)
    assert texts
    assert all(isinstance(text, str) for text in texts)


class TestCohere:
    def test_one_answer_for_all_its_readers(self):
        assert answer(BODIES["cohere"]) == {
            "id": "id-1",
            "model": "tiny",
            "results": [
                {"index": 1, "relevance_score": 0.9},
                {"index": 2, "relevance_score": 0.4},
                {"index": 0, "relevance_score": 0.1},
            ],
            "usage": {"prompt_tokens": 42, "total_tokens": 42},
            "meta": {
                "api_version": {"version": "1"},
                "billed_units": {"search_units": 1},
                "tokens": {"input_tokens": 42, "output_tokens": 0},
            },
        }

    def test_the_version_is_the_paths(self):
        assert answer(BODIES["cohere"], path="/v2/rerank")["meta"]["api_version"] == {"version": "2"}

    def test_search_units_are_started_hundreds(self):
        for n, units in ((100, 1), (101, 2), (250, 3)):
            body = {"query": "q", "documents": ["d"] * n}
            assert answer(body)["meta"]["billed_units"] == {"search_units": units}

    def test_warnings(self):
        assert answer(BODIES["cohere"], Ranking(RANKING.items, 3, 42, ("cut",)))["meta"]["warnings"] == ["cut"]

    @pytest.mark.parametrize(("top_n", "indices"), [(1, [1]), (2, [1, 2]), (9, [1, 2, 0]), (0, [1, 2, 0])])
    def test_top_n(self, top_n, indices):
        found = answer(BODIES["cohere"] | {"top_n": top_n})["results"]
        assert [result["index"] for result in found] == indices

    @pytest.mark.parametrize("top_n", [-1, 1.5, "3", True, [1]])
    def test_a_top_n_that_is_none(self, top_n):
        with pytest.raises(Refusal, match='"top_n" must be a whole number'):
            read(BODIES["cohere"] | {"top_n": top_n})

    def test_documents_go_back_as_objects(self):
        documents = ["a", {"text": "b", "id": 7}, {"title": "T", "body": "c"}]
        body = {
            "query": "q",
            "documents": documents,
            "rank_fields": ["text", "title", "body"],
            "return_documents": True,
        }
        assert [result["document"] for result in answer(body)["results"]] == [
            {"text": "b", "id": 7},
            {"text": "T c", "title": "T", "body": "c"},
            {"text": "a"},
        ]

    def test_rank_fields_in_their_order(self):
        documents = [{"title": "T", "year": 1999, "text": "unread"}, {"year": 2.5, "title": None}]
        body = {"query": "q", "documents": documents, "rank_fields": ["year", "title"]}
        assert read(body).texts == ("1999 T", "2.5")

    def test_an_object_without_the_fields(self):
        with pytest.raises(Refusal, match=r"documents\[1\] has none of the fields text; send texts") as caught:
            read({"query": "q", "documents": ["a", {"body": "b"}]})
        assert caught.value.reason is Reason.INVALID

    def test_a_field_that_is_no_text(self):
        with pytest.raises(Refusal, match=r"documents\[0\]"):
            read({"query": "q", "documents": [{"text": ["a"]}]})

    def test_errors_for_all_its_readers(self):
        status, content = DIALECTS[-1].error(Refusal(Reason.OVERLOADED, "full"), ENVELOPE)
        assert status == 503
        assert content == {
            "id": "id-1",
            "message": "full",
            "detail": "full",
            "error": {"message": "full", "type": "overloaded", "param": None, "code": 503},
        }


class TestTei:
    def test_a_bare_list(self):
        assert answer(BODIES["tei"]) == [
            {"index": 1, "score": 0.9},
            {"index": 2, "score": 0.4},
            {"index": 0, "score": 0.1},
        ]

    def test_texts(self):
        assert [item["text"] for item in answer(BODIES["tei"] | {"return_text": True})] == ["b", "c", "a"]

    def test_top_n_does_not_count(self):
        # LiteLLM sends it along; LlamaIndex fails when a text has no score.
        assert len(answer(BODIES["tei"] | {"top_n": 1})) == 3

    def test_cutting_at_the_start_is_refused(self):
        for direction in ("Right", "right", None):
            read(BODIES["tei"] | {"truncation_direction": direction})
        with pytest.raises(Refusal, match="truncation_direction"):
            read(BODIES["tei"] | {"truncation_direction": "Left"})

    @pytest.mark.parametrize(
        ("reason", "status", "error_type"),
        [
            (Reason.EMPTY, 400, "Empty"),
            (Reason.INVALID, 422, "Validation"),
            (Reason.TOO_LARGE, 413, "Validation"),
            (Reason.OVERLOADED, 429, "Overloaded"),
            (Reason.NOT_READY, 503, "Unhealthy"),
            (Reason.FAILED, 500, "Backend"),
        ],
    )
    def test_errors(self, reason, status, error_type):
        found = dialect_of(BODIES["tei"]).error(Refusal(reason, "why"), ENVELOPE)
        assert found == (status, {"error": "why", "error_type": error_type})


class TestVoyage:
    def test_data_and_usage(self):
        body = BODIES["voyage"] | {"top_k": 2, "return_documents": True, "truncation": True}
        assert answer(body) == {
            "object": "list",
            "data": [
                {"index": 1, "relevance_score": 0.9, "document": "b"},
                {"index": 2, "relevance_score": 0.4, "document": "c"},
            ],
            "model": "tiny",
            "usage": {"total_tokens": 42},
        }

    def test_errors(self):
        assert dialect_of(BODIES["voyage"]).error(Refusal(Reason.EMPTY, "why"), ENVELOPE) == (400, {"detail": "why"})
