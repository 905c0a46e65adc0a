"""Cosines by hand and against a real model; what is embedded again, and what is not."""

from contextlib import contextmanager

import numpy as np
import pytest

from crosstune.bi_encoder import SentenceTransformerEmbedder
from crosstune.checkpoints import resolve
from crosstune.scoring import CosineScorer, cosine_scorer
from crosstune.scoring.cache import PairCache, ScoreCache
from crosstune.types import ScoreKind

# Unit vectors: the cosine of two is the cosine of the angle between them.
ANGLES = {"q": 0, "right": 90, "a": 60, "b": 180, "c": 0, "d": 120}


class Compass:
    """An embedder of the angles above; remembers what it was asked for."""

    name = "compass"

    def __init__(self):
        self.queries, self.passages = [], []

    def embed_queries(self, texts, progress=None):
        self.queries.append(list(texts))
        return self._vectors(texts)

    def embed_passages(self, texts, progress=None):
        self.passages.append(list(texts))
        return self._vectors(texts)

    def _vectors(self, texts):
        angles = np.radians([ANGLES[text] for text in texts])
        return np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)


@pytest.fixture
def compass():
    return Compass()


def test_cosines_by_hand_in_input_order(compass):
    pairs = [("q", "b"), ("q", "a"), ("right", "a"), ("q", "c"), ("right", "b"), ("q", "a")]
    # cos 180, cos 60, cos 30, cos 0, cos 90, cos 60
    scores = CosineScorer(compass).score_pairs(pairs)
    assert scores == pytest.approx([-1, 0.5, np.sqrt(3) / 2, 1, 0, 0.5], abs=1e-6)
    assert scores.dtype == np.float64
    assert CosineScorer.score_kind is ScoreKind.SIMILARITY


def test_texts_are_embedded_once_in_a_call(compass):
    CosineScorer(compass).score_pairs([("q", "a"), ("right", "a"), ("q", "b"), ("q", "a")])
    assert (compass.queries, compass.passages) == ([["q", "right"]], [["a", "b"]])


def test_passages_are_embedded_once_across_calls(compass):
    scorer = CosineScorer(compass)
    scorer.score_pairs([("q", "a"), ("q", "b")])
    again = scorer.score_pairs([("right", "b"), ("right", "c"), ("right", "a")])
    assert compass.passages == [["a", "b"], ["c"]]
    assert again == pytest.approx([0, 0, np.sqrt(3) / 2], abs=1e-6)
    scorer.score_pairs([("q", "a")])
    assert compass.passages == [["a", "b"], ["c"]]  # not even asked for nothing


def test_vectors_used_longest_ago_are_dropped(compass, monkeypatch):
    monkeypatch.setattr(cosine_scorer, "_MOST_KEPT", 2)
    scorer = CosineScorer(compass)
    scorer.score_pairs([("q", "a"), ("q", "b")])
    scorer.score_pairs([("q", "a"), ("q", "c")])  # a is used again, so b makes room
    compass.passages.clear()
    scorer.score_pairs([("q", "a"), ("q", "c")])
    assert compass.passages == []
    scorer.score_pairs([("q", "b")])
    assert compass.passages == [["b"]]


def test_more_passages_than_are_kept_are_all_scored(compass, monkeypatch):
    monkeypatch.setattr(cosine_scorer, "_MOST_KEPT", 1)
    scorer = CosineScorer(compass)
    for _ in range(2):
        scores = scorer.score_pairs([("q", "a"), ("q", "b"), ("q", "c")])
        assert scores == pytest.approx([0.5, -1, 1], abs=1e-6)
    assert compass.passages == [["a", "b", "c"], ["a", "b"]]


def test_nothing_gives_nothing_and_asks_nothing(compass, tmp_path):
    plain = CosineScorer(compass)
    for scorer in (plain, plain.with_cache(PairCache(ScoreCache(tmp_path / "scores.db"), "m"))):
        scores = scorer.score_pairs([])
        assert (scores.shape, scores.dtype) == ((0,), np.float64)
    assert compass.queries == compass.passages == []


def test_a_cache_spares_both_texts(compass, tmp_path):
    cache = ScoreCache(tmp_path / "scores.db")
    cached = CosineScorer(compass).with_cache(PairCache(cache, "m"))
    cached.score_pairs([("q", "a"), ("q", "b")])
    found = cached.score_pairs([("q", "b"), ("right", "d"), ("q", "a")])
    assert found == pytest.approx([-1, np.sqrt(3) / 2, 0.5], abs=1e-6)
    assert (compass.queries, compass.passages) == ([["q"], ["right"]], [["a", "b"], ["d"]])
    assert len(cache) == 3


def test_the_scorer_it_was_made_from_stays_without_a_cache(compass, tmp_path):
    cache, plain = ScoreCache(tmp_path / "scores.db"), CosineScorer(compass)
    plain.with_cache(PairCache(cache, "m"))
    plain.score_pairs([("q", "a")])
    assert len(cache) == 0


def test_a_real_model_gives_the_librarys_cosines(bare_bert):
    sentence_transformers = pytest.importorskip("sentence_transformers")
    queries, passages = ["refund to a card", "where is the invoice"], ["a refund is paid", "reset your password", ""]
    pairs = [(query, passage) for passage in passages for query in queries]
    model = sentence_transformers.SentenceTransformer(str(bare_bert), device="cpu")
    left, right = (model.encode(texts).astype(np.float64) for texts in zip(*pairs, strict=True))
    expected = (left * right).sum(axis=1) / np.linalg.norm(left, axis=1) / np.linalg.norm(right, axis=1)
    embedder = SentenceTransformerEmbedder(resolve(str(bare_bert)), precision="fp32", device="cpu")
    np.testing.assert_allclose(CosineScorer(embedder).score_pairs(pairs), expected, atol=1e-5)
    assert expected.std() > 0.01


def test_progress_is_told_of_both_kinds_of_text(bare_bert):
    told = []

    @contextmanager
    def progress(label, total):
        told.append((label, total))
        yield lambda n: None

    embedder = SentenceTransformerEmbedder(resolve(str(bare_bert)), precision="fp32", device="cpu")
    CosineScorer(embedder).score_pairs([("refund", "a"), ("refund", "b")], progress)
    assert told == [("Embedding questions", 1), ("Embedding passages", 2)]
