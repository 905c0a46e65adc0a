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
