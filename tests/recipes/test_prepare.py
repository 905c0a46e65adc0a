"""Choosing the first stage whose candidates are reranked."""

from crosstune.recipes.prepare import choose_first_stage
from crosstune.types import Candidate, Collection, Passage, Query, Run, ScoreKind

PASSAGES = {name: Passage(name, name) for name in ("right", "wrong")}


def collection(n):
    queries = {f"q{i}": Query(f"q{i}", f"question {i}") for i in range(n)}
    return Collection(PASSAGES, queries, {query_id: {"right": 1} for query_id in queries}, "")


class Ranks:
    """Puts one passage first for every question and counts the questions."""

    def __init__(self, name, first, finds=("right", "wrong")):
        self.name, self._ids, self.asked = name, [first, *(p for p in finds if p != first)], []

    def retrieve(self, queries, depth, progress=None):
        self.asked += [query.query_id for query in queries]
        ranked = tuple(Candidate(pid, 1 / rank, rank) for rank, pid in enumerate(self._ids, start=1))
        return Run(self.name, depth, ScoreKind.LEXICAL, {query.query_id: ranked for query in queries})


def chosen(retrievers, n):
    data = collection(n)
    return choose_first_stage(retrievers, list(data.queries.values()), data, 50, None)


def test_the_best_ranking_is_chosen():
    assert chosen([Ranks("a", "wrong"), Ranks("b", "right"), Ranks("c", "wrong")], 10) == "b"
    assert chosen([Ranks("a", "wrong", ()), Ranks("b", "wrong")], 10) == "b"  # it finds the answer, if late


def test_a_thousand_questions_decide_the_same_ones_for_all():
    first, second = Ranks("a", "wrong"), Ranks("b", "right")
    assert chosen([first, second], 1500) == "b"
    assert len(set(first.asked)) == len(first.asked) == 1000
    assert first.asked == second.asked
    few = Ranks("a", "right")
    chosen([few], 999)
    assert len(few.asked) == 999
