from crosstune.retrieval import Remembering
from crosstune.types import Candidate, Query, Run, ScoreKind

A, B, C = (Query(name, f"question {name}") for name in "abc")


class Counting:
    """Ranks `depth` passages for a question and writes down what it was asked."""

    name = "counted"

    def __init__(self):
        self.asked = []

    def retrieve(self, queries, depth, progress=None):
        self.asked.append(([query.query_id for query in queries], depth))
        ids = [query.query_id for query in queries]
        ranked = {q: tuple(Candidate(f"{q}{i}", 1 / i, i) for i in range(1, depth + 1)) for q in ids}
        return Run(self.name, depth, ScoreKind.LEXICAL, ranked)


def test_a_question_is_searched_once_at_each_depth():
    inner = Counting()
    first_stage = Remembering(inner)
    assert first_stage.name == "counted"
    first_stage.retrieve([A, B], 2)
    run = first_stage.retrieve([C, A], 2)
    deeper = first_stage.retrieve([A], 3)
    assert inner.asked == [(["a", "b"], 2), (["c"], 2), (["a"], 3)]
    assert run == Counting().retrieve([C, A], 2)
    assert list(run.candidates) == ["c", "a"]
    assert [c.passage_id for c in deeper.candidates["a"]] == ["a1", "a2", "a3"]


def test_all_known_is_still_a_run():
    first_stage = Remembering(Counting())
    expected = first_stage.retrieve([A], 2)
    assert first_stage.retrieve([A], 2) == expected
    assert first_stage.retrieve([], 2) == Run("counted", 2, ScoreKind.LEXICAL, {})
