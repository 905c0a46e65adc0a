"""What every first stage must do. A new one is one line in RETRIEVERS."""

import hashlib
import re

import numpy as np
import pytest

from crosstune.errors import ConfigError
from crosstune.language import language_of
from crosstune.progress import silent
from crosstune.retrieval import BM25, Dense, Hybrid
from crosstune.types import Passage, Query


class WordHashes:
    """A text as the sum of random directions of its words: alike texts are near, unknown words are noise."""

    name = "word hashes"

    def embed_queries(self, texts, progress=silent):
        rows = np.array([sum(map(self._direction, re.findall(r"\w+", f"{text} blank"))) for text in texts])
        return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)

    embed_passages = embed_queries

    @staticmethod
    def _direction(word):
        seed = int(hashlib.sha256(word.encode()).hexdigest()[:8], 16)
        return np.random.default_rng(seed).normal(size=64)


def bm25(passages):
    return BM25(passages, language_of("en"))


def dense(passages):
    return Dense(passages, WordHashes())


def hybrid(passages):
    return Hybrid([bm25(passages), dense(passages)])


RETRIEVERS = {"bm25": bm25, "dense": dense, "hybrid": hybrid}


@pytest.fixture(params=RETRIEVERS)
def make(request):
    return RETRIEVERS[request.param]


@pytest.fixture
def retriever(make, corpus):
    return make(corpus.passages)


@pytest.fixture
def queries(corpus):
    return list(corpus.queries.values())


def test_every_query_is_answered_in_input_order(retriever, queries):
    run = retriever.retrieve(queries[::-1], 5)
    assert list(run.candidates) == [query.query_id for query in queries[::-1]]
    assert run.name == retriever.name


@pytest.mark.parametrize("depth", [1, 3, 20, 500])
def test_depth_ranks_and_scores(retriever, queries, corpus, depth):
    run = retriever.retrieve(queries, depth)
    assert run.depth == depth
    for candidates in run.candidates.values():
        ids = [c.passage_id for c in candidates]
        scores = [c.score for c in candidates]
        assert 1 <= len(ids) <= min(depth, len(corpus.passages))
        assert len(set(ids)) == len(ids)
        assert set(ids) <= corpus.passages.keys()
        assert [c.rank for c in candidates] == list(range(1, len(ids) + 1))
        assert scores == sorted(scores, reverse=True)
        assert all(type(score) is float for score in scores)


def test_the_right_topic_is_first(retriever, queries, corpus):
    run = retriever.retrieve(queries, 1)
    for query in queries:
        topic = next(iter(corpus.qrels[query.query_id])).split("-")[0]
        assert run.candidates[query.query_id][0].passage_id.split("-")[0] == topic


def test_words_that_no_passage_has(retriever, corpus):
    candidates = retriever.retrieve([Query("q", "zyzzyva qwrtz")], 5).candidates["q"]
    assert len(candidates) <= 5  # BM25 has none; dense search always has a nearest one
    assert candidates == () or retriever.name != "bm25"


def test_an_empty_question_is_answered_too(retriever):
    assert len(retriever.retrieve([Query("q", "")], 5).candidates["q"]) <= 5


def test_no_queries(retriever):
    assert retriever.retrieve([], 5).candidates == {}


def test_same_result_twice_and_from_a_fresh_index(make, retriever, queries, corpus):
    run = retriever.retrieve(queries, 10)
    assert retriever.retrieve(queries, 10) == run
    assert make(corpus.passages).retrieve(queries, 10) == run


def test_the_other_queries_make_no_difference(retriever, queries):
    together = retriever.retrieve(queries, 10)
    for query in queries:
        alone = retriever.retrieve([query], 10).candidates[query.query_id]
        assert alone == together.candidates[query.query_id]


def test_equal_passages_keep_corpus_order(make):
    passages = {f"p{i}": Passage(f"p{i}", "a refund is paid") for i in (3, 1, 2)}
    passages["other"] = Passage("other", "export the report")
    candidates = make(passages).retrieve([Query("q", "refund paid")], 3).candidates["q"]
    assert [c.passage_id for c in candidates] == ["p3", "p1", "p2"]


@pytest.mark.parametrize("depth", [0, -1])
def test_a_depth_without_room_is_refused(retriever, queries, depth):
    with pytest.raises(ConfigError, match="depth"):
        retriever.retrieve(queries, depth)
