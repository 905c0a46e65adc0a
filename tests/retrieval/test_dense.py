"""Cosines worked out by hand, and the same answer however the questions are cut into blocks."""

import numpy as np
import pytest

from crosstune.errors import ConfigError
from crosstune.progress import silent
from crosstune.retrieval import Dense, dense
from crosstune.retrieval.ranking import best_places
from crosstune.types import Passage, Query, ScoreKind

# Unit vectors: cosines with (1, 0) are the first components.
VECTORS = {"east": (1.0, 0.0), "north": (0.0, 1.0), "northeast": (0.6, 0.8), "west": (-1.0, 0.0)}


class Compass:
    """Embeds the words of the compass."""

    name = "compass"

    def embed_queries(self, texts, progress=silent):
        return np.array([VECTORS[text] for text in texts], dtype=np.float32)

    embed_passages = embed_queries


def passages(*texts):
    return {f"p{i}": Passage(f"p{i}", text) for i, text in enumerate(texts)}


def test_ranks_by_cosine():
    index = Dense(passages("west", "north", "northeast", "east"), Compass())
    run = index.retrieve([Query("a", "east"), Query("b", "north")], 3)
    assert (run.name, run.score_kind) == ("dense", ScoreKind.SIMILARITY)
    assert [(c.passage_id, c.score, c.rank) for c in run.candidates["a"]] == [
        ("p3", 1.0, 1),
        ("p2", pytest.approx(0.6), 2),
        ("p1", 0.0, 3),
    ]
    # West and east tie at 0 with north: the cut at 3 keeps the earlier one.
    assert [c.passage_id for c in run.candidates["b"]] == ["p1", "p2", "p0"]


def test_a_difference_in_the_fifth_decimal_counts(monkeypatch):
    monkeypatch.setitem(VECTORS, "closer", (0.60002, 0.79999))
    index = Dense(passages("northeast", "closer"), Compass())
    found = index.retrieve([Query("a", "east")], 2).candidates["a"]
    assert [(c.passage_id, c.score) for c in found] == [("p1", 0.60002), ("p0", 0.6)]


def test_blocks_make_no_difference(monkeypatch):
    index = Dense(passages(*VECTORS), Compass())
    queries = [Query(text, text) for text in VECTORS]
    whole = index.retrieve(queries, 4)
    monkeypatch.setattr(dense, "_PAIRS_PER_BLOCK", 1)
    assert index.retrieve(queries, 4) == whole


def test_similarity_of_named_passages():
    index = Dense(passages("west", "north", "northeast"), Compass())
    similarity = index.similarity([Query("a", "east"), Query("b", "northeast")])
    assert similarity("a", ["p2", "p0"]).tolist() == pytest.approx([0.6, -1.0])
    assert similarity("b", ["p2", "p1"]).tolist() == pytest.approx([1.0, 0.8])
    assert similarity("a", []).tolist() == []
    with pytest.raises(ConfigError, match="'c'"):
        similarity("c", ["p0"])


def test_best_places_agrees_with_a_full_sort():
    rng = np.random.default_rng(0)
    for _ in range(200):
        scores = rng.integers(0, 6, size=rng.integers(1, 30)).astype(np.float32)  # full of ties
        expected = sorted(range(len(scores)), key=lambda i: (-scores[i], i))
        for depth in (1, 3, 10, 50):
            assert best_places(scores, depth).tolist() == expected[:depth]


def test_agrees_with_sorting_all_cosines_in_float64():
    rng = np.random.default_rng(1)
    # Directions that come again, and others that are next to them: ties, and differences in the seventh digit.
    some = rng.normal(size=(40, 16))
    matrix = np.concatenate([some, some + rng.normal(size=some.shape) * 1e-7, rng.normal(size=(220, 16))])
    matrix = (matrix / np.linalg.norm(matrix, axis=1, keepdims=True)).astype(np.float32)
    texts = {str(i): row for i, row in enumerate(matrix)}

    class Table:
        name = "table"

        def embed_queries(self, asked, progress=silent):
            return np.stack([texts[text] for text in asked])

        embed_passages = embed_queries

    index = Dense(passages(*texts), Table())
    run = index.retrieve([Query(str(i), str(i)) for i in range(60)], 50)
    for i in range(60):
        exact = np.round(matrix.astype(np.float64) @ matrix[i].astype(np.float64), 6)
        expected = sorted(range(len(matrix)), key=lambda place: (-exact[place], place))[:50]
        assert [(c.passage_id, c.score) for c in run.candidates[str(i)]] == [(f"p{p}", exact[p]) for p in expected]
