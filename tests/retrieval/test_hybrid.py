"""Reciprocal rank fusion worked out by hand."""

import pytest

from crosstune.errors import ConfigError
from crosstune.progress import silent
from crosstune.retrieval import Hybrid, fuse
from crosstune.types import Candidate, Query, Run, ScoreKind


def run_of(name, **rankings):
    return Run(
        name,
        10,
        ScoreKind.LEXICAL,
        {
            query_id: tuple(Candidate(pid, -float(rank), rank) for rank, pid in enumerate(ids, start=1))
            for query_id, ids in rankings.items()
        },
    )


class Fixed:
    """A first stage with a given ranking, cut to the depth asked for."""

    def __init__(self, name, *ids):
        self.name = name
        self.ids = ids

    def retrieve(self, queries, depth, progress=silent):
        return run_of(self.name, **{query.query_id: self.ids[:depth] for query in queries})


def test_sums_by_hand():
    fused = fuse([run_of("a", q="xy"), run_of("b", q="yz")], 10)
    # y: 1/62 + 1/61; x: 1/61; z: 1/62.
    assert fused.score_kind is ScoreKind.FUSED
    assert [(c.passage_id, c.rank) for c in fused.candidates["q"]] == [("y", 1), ("x", 2), ("z", 3)]
    assert [c.score for c in fused.candidates["q"]] == pytest.approx([0.0325225, 0.0163934, 0.0161290], abs=1e-7)


def test_equal_sums_go_by_the_first_ranking():
    # x is 1st and 2nd, y 2nd and 1st; u is 3rd only in a, v only in b.
    rankings = run_of("a", q="xyu"), run_of("b", q="yxv")
    assert "".join(c.passage_id for c in fuse(rankings, 10).candidates["q"]) == "xyuv"
    assert "".join(c.passage_id for c in fuse(rankings[::-1], 10).candidates["q"]) == "yxvu"


def test_a_query_that_one_side_has_nothing_for_is_kept():
    fused = fuse([run_of("a", q="x", r=""), run_of("b", q="x")], 10)
    assert fused.candidates["r"] == ()
    assert fused.candidates["q"][0].score == pytest.approx(2 / 61)


def test_each_side_is_asked_for_the_depth_and_the_whole_is_cut_to_it():
    hybrid = Hybrid([Fixed("a", "x", "y", "z"), Fixed("b", "z", "u", "y")])
    run = hybrid.retrieve([Query("q", "?")], 2)
    # To depth 2 the sides hold x y and z u: x and z tie at 1/61. Deeper, z and y would have won.
    assert [c.passage_id for c in run.candidates["q"]] == ["x", "z"]
    assert (run.name, run.depth) == ("hybrid", 2)


def test_one_side_is_no_hybrid():
    with pytest.raises(ConfigError, match="at least two"):
        Hybrid([Fixed("a", "x")])
