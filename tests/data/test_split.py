"""No group on two sides, sizes as asked, the same split every time; and the check that proves it can fail."""

from __future__ import annotations

import pytest

from crosstune.data import SplitSettings, check_leaks, split, splits_from_user
from crosstune.data.collect import collection_of
from crosstune.errors import ConfigError, DataError, LeakageError
from crosstune.types import Collection, Passage, Qrels, Query, Splits

WORDS = ["alpha", "bravo", "cedar", "delta", "ember", "flint", "grove", "haven", "inlet", "jolly"]


def topic(n: int) -> str:
    """A question unlike every other one: two distinct words out of ten, and a number."""
    return f"what about {WORDS[n // 10 % 10]} {WORDS[n % 10]} {n}"


def collection(n: int, per_answer: int = 1) -> Collection:
    """n questions; every `per_answer` of them share an answer."""
    queries = {f"q{i}": Query(f"q{i}", topic(i)) for i in range(n)}
    passages = {f"p{j}": Passage(f"p{j}", f"answer {j}") for j in range(-(-n // per_answer))}
    qrels: Qrels = {f"q{i}": {f"p{i // per_answer}": 1} for i in range(n)}
    return collection_of(passages, queries, qrels)


def sizes(splits: Splits) -> tuple[int, int, int]:
    return len(splits.train), len(splits.dev), len(splits.test)


def test_sizes_of_independent_questions() -> None:
    assert sizes(split(collection(100))) == (70, 10, 20)
    capped = SplitSettings(max_dev=3, max_test=5)
    assert sizes(split(collection(100), capped)) == (92, 3, 5)


def test_every_question_is_in_one_split_and_groups_are_whole() -> None:
    data = collection(300, per_answer=3)
    result = split(data)
    assert sorted(result.train + result.dev + result.test) == sorted(data.queries)
    assert sizes(result) == (210, 30, 60)  # whole triples fit exactly
    where = {q: name for name in ("train", "dev", "test") for q in getattr(result, name)}
    for i in range(0, 300, 3):
        assert len({where[f"q{i + k}"] for k in range(3)}) == 1
        assert len({result.groups[f"q{i + k}"] for k in range(3)}) == 1


def test_seeded() -> None:
    data = collection(100)
    assert split(data, SplitSettings(seed=1)) == split(data, SplitSettings(seed=1))
    assert split(data, SplitSettings(seed=1)).test != split(data, SplitSettings(seed=2)).test


def test_a_giant_group_is_trained_on() -> None:
    data = collection(100)
    shared: Qrels = {qid: dict(judged) for qid, judged in data.qrels.items()}
    for i in range(60):
        shared[f"q{i}"]["p0"] = 1
    result = split(collection_of(data.passages, data.queries, shared))
    giant = {f"q{i}" for i in range(60)}
    assert giant <= set(result.train)
    assert len(result.test) == 20


def test_all_groups_larger_than_the_target() -> None:
    # 12 groups of 30; the target for test is 5: one group is taken all the same, and dev gets another.
    result = split(collection(360, per_answer=30), SplitSettings(max_test=5, max_dev=5))
    assert sizes(result) == (300, 30, 30)


def test_untestable_questions_are_trained_on() -> None:
    data = collection(100)
    qrels: Qrels = {qid: ({} if int(qid[1:]) < 50 else judged) for qid, judged in data.qrels.items()}
    result = split(collection_of(data.passages, data.queries, qrels))
    assert sizes(result) == (85, 5, 10)  # shares of the 50 questions that can be tested
    assert {f"q{i}" for i in range(50)} <= set(result.train)


def test_too_few_groups() -> None:
    with pytest.raises(DataError, match=r"9 independent groups .*needed: 10"):
        split(collection(27, per_answer=3))
    assert sizes(split(collection(10))) == (7, 1, 2)


@pytest.mark.parametrize("settings", [{"dev": 0.0}, {"test": 1.0}, {"dev": 0.5, "test": 0.5}, {"max_test": 0}])
def test_settings_are_checked(settings: dict[str, float]) -> None:
    with pytest.raises(ConfigError):
        SplitSettings(**settings)  # type: ignore[arg-type]


def near_duplicate_collection() -> Collection:
    """q0 and q1 ask nearly the same and have different answers; q2 and q3 share an answer."""
    long = "how long do I have to wait until the refund for my returned goods arrives"
    texts = [long, long + " here", "where is the office", "what are your opening hours"]
    queries = {f"q{i}": Query(f"q{i}", text) for i, text in enumerate(texts)}
    passages = {f"p{i}": Passage(f"p{i}", f"answer {i}") for i in range(3)}
    return collection_of(passages, queries, {"q0": {"p0": 1}, "q1": {"p1": 1}, "q2": {"p2": 1}, "q3": {"p2": 1}})


def splits(train: tuple[str, ...], test: tuple[str, ...], seed: int | None) -> Splits:
    return Splits(train, (), test, {}, seed)


def test_check_finds_near_duplicate_questions() -> None:
    data = near_duplicate_collection()
    for seed in (0, None):
        with pytest.raises(LeakageError, match=r"1 groups .*train 'q0' \(how long.*test 'q1'.*--drop-leaks"):
            check_leaks(data, splits(("q0", "q2", "q3"), ("q1",), seed))
    assert check_leaks(data, splits(("q0", "q1"), ("q2", "q3"), seed=0)) == 0


def test_shared_answers_leak_in_our_splits_and_are_counted_in_the_users() -> None:
    data = near_duplicate_collection()
    with pytest.raises(LeakageError, match="q2"):
        check_leaks(data, splits(("q0", "q1", "q2"), ("q3",), seed=0))
    assert check_leaks(data, splits(("q0", "q1", "q2"), ("q3",), seed=None)) == 1


def test_check_finds_a_question_in_two_splits() -> None:
    with pytest.raises(LeakageError, match="'q0' is in train and in test"):
        check_leaks(near_duplicate_collection(), splits(("q0",), ("q0",), seed=0))


def test_user_splits_are_kept_and_dev_is_cut_from_train() -> None:
    data = collection(100, per_answer=2)
    by_query = {qid: "test" if int(qid[1:]) < 20 else "train" for qid in data.queries}
    result = splits_from_user(data, by_query)
    assert set(result.test) == {f"q{i}" for i in range(20)}
    assert sizes(result) == (72, 8, 20)  # a tenth of the 80 train questions
    assert {result.groups[q] for q in result.dev}.isdisjoint(result.groups[q] for q in result.train)
    assert result.seed is None
    named = dict(by_query, q20="dev", q21="dev")
    assert splits_from_user(data, named).dev == ("q20", "q21")


def test_user_splits_with_leaks_are_refused_or_cleared_from_train() -> None:
    data = near_duplicate_collection()
    by_query = {"q0": "train", "q1": "test", "q2": "train", "q3": "dev"}
    with pytest.raises(LeakageError):
        splits_from_user(data, by_query)
    result = splits_from_user(data, by_query, drop_leaks=True)
    assert (result.train, result.dev, result.test) == (("q2",), ("q3",), ("q1",))


def test_incomplete_user_splits() -> None:
    data = collection(20)
    with pytest.raises(DataError, match="20 questions have no split"):
        splits_from_user(data, {})
    with pytest.raises(DataError, match='no question with an answer in "test"'):
        splits_from_user(data, dict.fromkeys(data.queries, "train"))


def synthetic_among(data: Collection, of: set[str]) -> Collection:
    """The same questions, some of them synthetic."""
    queries = {q: Query(q, query.text, synthetic=q in of) for q, query in data.queries.items()}
    return collection_of(data.passages, queries, data.qrels)


def test_synthetic_questions_are_only_trained_on() -> None:
    # 100 answers with a question of a person's and a synthetic one each, both of one group.
    data = collection(200, per_answer=2)
    of = {f"q{i}" for i in range(1, 200, 2)}
    result = split(synthetic_among(data, of))
    assert sizes(result) == (140, 10, 20)  # 100 real questions: 10 and 20; the pairs of the other 70 to train
    assert not of & set(result.dev + result.test)
    # What shares its answer with a tested question is in no split: training on it would be a leak.
    assert len(set(data.queries) - set(result.train + result.dev + result.test)) == 30


def test_people_must_have_asked_enough() -> None:
    data = collection(100)
    nine_real = {f"q{i}" for i in range(9, 100)}
    with pytest.raises(DataError, match="9 independent groups of questions that people asked"):
        split(synthetic_among(data, nine_real))
    assert set(split(synthetic_among(data, nine_real - {"q9"})).test) <= {f"q{i}" for i in range(10)}


def test_a_synthetic_question_in_the_users_test_is_refused() -> None:
    data = synthetic_among(collection(20), {"q0"})
    named = {q: "test" if n < 5 else "train" for n, q in enumerate(data.queries)}
    with pytest.raises(DataError, match="1 synthetic questions are in dev or test, such as 'q0'"):
        splits_from_user(data, named)
    named["q0"] = "train"
    assert "q0" not in splits_from_user(data, named).dev
