"""What is read of the candidates, and the scores that come of it; all by hand."""

import numpy as np
import pytest

from crosstune.progress import silent
from crosstune.recipes.reading import score_runs, to_read, with_logits
from crosstune.scoring import ScoredPairs
from crosstune.types import Candidate, Collection, Part, Passage, Query, Reading, Run, ScoreKind

CROSS, BI, WORDS = Part.CROSS_ENCODER, Part.BI_ENCODER, Part.LEXICAL


def run(**passage_ids):
    return Run("dense", 4, ScoreKind.SIMILARITY, {
        query_id: tuple(Candidate(pid, 1.0 / rank, rank) for rank, pid in enumerate(ids, start=1))
        for query_id, ids in passage_ids.items()
    })  # fmt: skip


RUN = run(q=["a", "b", "c", "d"], r=["d", "a"], s=[])
PARTS = {
    "q": {BI: np.array([0.1, 0.2, 0.3, 0.4]), WORDS: np.array([9.0, 0.0, 0.0, 1.0])},
    "r": {BI: np.array([0.5, 0.6]), WORDS: np.array([0.0, 0.0])},
    "s": {BI: np.empty(0), WORDS: np.empty(0)},
}


def ids(found):
    return {query_id: [c.passage_id for c in ranked] for query_id, ranked in found.candidates.items()}


class TestToRead:
    def test_the_best_of_each_question(self):
        # q: 1 + 9, 2, 3, 4 + 1.
        found = to_read(RUN, PARTS, Reading(2, {BI: 10.0, WORDS: 1.0}))
        assert ids(found) == {"q": ["a", "d"], "r": ["a", "d"], "s": []}
        assert found.depth == 2

    def test_all(self):
        assert to_read(RUN, PARTS, None) is RUN


class TestWithLogits:
    def test_unread_ones_have_the_lowest(self):
        read = run(q=["a", "d"], r=["a", "d"], s=[])
        logits = {"q": np.array([3.0, -1.0]), "r": np.array([0.5, 0.75]), "s": np.empty(0)}
        found = with_logits(RUN, PARTS, read, logits)
        assert found["q"][CROSS].tolist() == [3.0, -1.0, -1.0, -1.0]
        assert found["r"][CROSS].tolist() == [0.75, 0.5]
        assert found["s"][CROSS].tolist() == []
        assert found["q"][BI] is PARTS["q"][BI]
        assert CROSS not in PARTS["q"]


class Lengths:
    """The logit of a pair is the length of its passage; every pair may be asked for once."""

    def __init__(self):
        self.seen = []

    def score(self, pairs, progress):
        self.seen += pairs
        return ScoredPairs(np.array([float(len(passage)) for _, passage in pairs]), 0.25)


@pytest.fixture
def collection():
    passages = {pid: Passage(pid, text) for pid, text in (("a", "x"), ("b", "xx"), ("c", "xxx"), ("d", "xxxx"))}
    return Collection(passages, {q: Query(q, f"{q}?") for q in "qr"}, {}, "")


def test_every_pair_is_scored_once(collection):
    scorer = Lengths()
    runs = [run(q=["a", "b"], r=["d"]), run(q=["b", "c", "a"], r=["d", "a"])]
    logits, cut = score_runs(scorer, collection, runs, ["q", "r"], silent)
    assert sorted(scorer.seen) == [("q?", "x"), ("q?", "xx"), ("q?", "xxx"), ("r?", "x"), ("r?", "xxxx")]
    assert [{q: found.tolist() for q, found in of_run.items()} for of_run in logits] == [
        {"q": [1.0, 2.0], "r": [4.0]}, {"q": [2.0, 3.0, 1.0], "r": [4.0, 1.0]}
    ]  # fmt: skip
    assert cut == 0.25
