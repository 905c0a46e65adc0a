"""What a first stage learns from: whose negative is what."""

from types import SimpleNamespace

from crosstune.data import near_duplicate_passages
from crosstune.recipes.contrasts import Contrasts
from crosstune.types import Collection, Passage, Query, Splits


def prepared_of(corpus, **splits):
    ids = {"train": (), "dev": (), "test": ()} | splits
    return SimpleNamespace(
        collection=corpus,
        splits=Splits(**ids, groups={q: q for q in corpus.queries}, seed=0),
        near_duplicates=lambda: near_duplicate_passages(corpus),
    )


def test_they_know_other_answers_and_protected_ones():
    texts = {"a": "reset the password by mail", "b": "a refund takes thirty days", "c": "see the billing page"}
    collection = Collection(
        {pid: Passage(pid, text) for pid, text in texts.items()},
        {q: Query(q, q) for q in ("q1", "q2", "q3")},
        {"q1": {"a": 1, "b": 1, "c": 0}, "q2": {"b": 1}, "q3": {"b": 2}},
        "",
    )
    contrasts = Contrasts(prepared_of(collection, train=("q1", "q2"), test=("q3",)))
    assert contrasts.queries == ["q1", "q2"]
    assert contrasts.passage_ids == ["a", "b"]  # c answers nothing
    assert contrasts.texts(collection) == [texts["a"], texts["b"]]
    assert [(e.query, e.positive, e.negatives, set(e.never)) for e in contrasts.all] == [
        (0, 0, (), {0, 1}),
        (0, 1, (), {0, 1}),
        (1, 1, (), {1}),
    ]
    assert contrasts.protected == {1}  # b answers the test question
    assert [e.group for e in contrasts.all] == ["q1", "q1", "q2"]
    assert not contrasts.rival_questions  # one of two answers is protected: not most of them
    among = Contrasts(prepared_of(collection, train=("q1", "q2"), test=("q3",)), ["c", "b"])
    assert among.passage_ids == ["a", "b", "c"]  # nobody's answer, everybody's negative
    assert (among.all, among.protected) == (contrasts.all, contrasts.protected)


def test_questions_are_contrasted_where_most_answers_are_protected():
    collection = Collection(
        {"a": Passage("a", "reset the password by mail"), "b": Passage("b", "a refund takes thirty days")},
        {q: Query(q, q) for q in ("q1", "q2", "q3", "q4")},
        {"q1": {"a": 1}, "q2": {"b": 1}, "q3": {"b": 1}, "q4": {"a": 1}},
        "",
    )
    assert Contrasts(prepared_of(collection, train=("q1", "q2"), test=("q3", "q4"))).rival_questions
    assert Contrasts(prepared_of(collection, train=("q1", "q2"), dev=("q4",), test=("q3",))).rival_questions
    # A question of answers, whatever other passages there are beside them.
    assert Contrasts(prepared_of(collection, train=("q1",), dev=("q4",), test=("q3",)), ["a", "b"]).rival_questions
    assert not Contrasts(prepared_of(collection, train=("q1", "q2"), test=("q3",))).rival_questions
