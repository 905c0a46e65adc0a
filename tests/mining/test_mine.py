"""Each rule on a corpus small enough to see the answer; then quotas, top-up and reproducibility."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest

from crosstune.errors import ConfigError
from crosstune.mining import Band, MiningSettings, Reason, mine
from crosstune.mining.rules import too_similar_from
from crosstune.types import Candidate, Collection, Passage, Query, Run, ScoreKind


def collection_of(texts, qrels):
    passages = {passage_id: Passage(passage_id, text) for passage_id, text in texts.items()}
    queries = {query_id: Query(query_id, f"question {query_id}") for query_id in qrels}
    return Collection(passages, queries, qrels, "f" * 64)


def run_of(rankings):
    return Run(
        "bm25",
        100,
        ScoreKind.LEXICAL,
        {
            query_id: tuple(Candidate(pid, 100.0 - rank, rank) for rank, pid in enumerate(ids, start=1))
            for query_id, ids in rankings.items()
        },
    )


def cosines_of(values):
    """Similarity by passage id alone, 0 for those not named."""
    return lambda query_id, passage_ids: np.array([values.get(pid, 0.0) for pid in passage_ids])


def mined(collection, rankings, query_ids=("q",), protected=(), near=None, cosines=None, **settings):
    similarity = None if cosines is None else cosines_of(cosines)
    return mine(
        collection,
        run_of(rankings),
        query_ids,
        protected_passage_ids=set(protected),
        near_duplicates=near or {},
        similarity=similarity,
        settings=MiningSettings(**settings),
    )


def only(result):
    """The one group and its account."""
    assert len(result.groups) == len(result.account.groups) == 1
    return result.groups[0], result.account.groups[0]


def test_what_is_never_a_negative():
    texts = {
        "own": "Refunds take 30 days.",
        "second": "You get the money within a month.",
        "copy": "refunds take 30 DAYS",
        "near": "Refunds take about 30 days.",
        "near2": "You get the money within one month.",
        "dev": "Answer of a dev question.",
        "devcopy": "answer of a dev question",
        "devnear": "Answers of a dev question.",
        "close": "Repayments arrive after a month.",
        "free": "Export the report as a table.",
    }
    collection = collection_of(texts, {"q": {"own": 1}})
    collection.qrels["q"]["second"] = 2
    result = mined(
        collection,
        {"q": list(texts)},
        protected=["dev"],
        # Each pair is given in one direction only, and not the same one.
        near={"own": frozenset({"near"}), "near2": frozenset({"second"}), "dev": frozenset({"devnear"})},
        cosines={"own": 0.8, "second": 0.9, "close": 0.76, "free": 0.75},
    )
    group, account = result.groups[0], result.account.groups[0]
    assert (group.query_id, group.positive_id, group.negative_ids) == ("q", "own", ("free",))
    assert account.removed == {
        Reason.OWN_ANSWER: ("own",),
        Reason.OTHER_POSITIVE: ("second",),
        Reason.EQUAL_TEXT: ("copy",),
        Reason.NEAR_DUPLICATE: ("near", "near2"),
        Reason.PROTECTED: ("dev", "devcopy", "devnear"),
        Reason.TOO_SIMILAR: ("close",),  # 0.76 is exactly 95% of 0.8
    }
    assert account.too_similar == {"close": 0.76}
    assert account.positive_similarity == 0.8
    assert account.n_seen == 10
    # The other positive's group has its own yardstick: 0.95 * 0.9 = 0.855 lets "close" pass.
    other = result.groups[1]
    assert other.positive_id == "second"
    assert set(other.negative_ids) == {"close", "free"}


def test_rules_hold_for_random_negatives_too():
    texts = {"own": "a", "copy": "A", "dev": "b", "close": "c", "free": "d"}
    collection = collection_of(texts, {"q": {"own": 1}})
    cosines = {"own": 0.5, "close": 0.5}
    group, account = only(mined(collection, {"q": []}, protected=["dev"], cosines=cosines))
    assert group.negative_ids == ("free",)
    assert account.taken[Band.RANDOM] == ("free",)
    assert sum(map(len, account.removed.values())) == 4


@pytest.mark.parametrize(("positive", "limit"), [(0.8, 0.76), (0.0, 0.0), (-0.5, -0.525), (1.0, 0.95), (-1.0, -1.05)])
def test_margin_lies_below_the_positive_whatever_its_sign(positive, limit):
    assert too_similar_from(positive, 0.95) == limit
    assert too_similar_from(positive, 1.0) == positive


def test_margin_with_a_negative_positive():
    # The case of sentence-transformers issue 3819: -0.49 is more similar than the positive at -0.5.
    collection = collection_of({"own": "a", "closer": "b", "far": "c"}, {"q": {"own": 1}})
    cosines = {"own": -0.5, "closer": -0.49, "far": -0.8}
    group, _ = only(mined(collection, {"q": ["closer", "far"]}, cosines=cosines))
    assert group.negative_ids == ("far",)


def test_without_similarity_the_margin_rule_is_off_and_said_to_be():
    collection = collection_of({"own": "a", "other": "b"}, {"q": {"own": 1}})
    result = mined(collection, {"q": ["other"]})
    assert only(result)[0].negative_ids == ("other",)
    assert result.account.totals.margin_rule is False
    assert only(result)[1].positive_similarity is None


def ranked_corpus(n):
    return {"own": "the answer"} | {f"p{i}": f"passage number {i}" for i in range(1, n + 1)}


def rank_of(passage_id):
    return int(passage_id[1:])


def test_quotas_come_from_their_ranks():
    # 100 ranked passages and 200 that are not ranked; the positive is not ranked either.
    collection = collection_of(ranked_corpus(300), {"q": {"own": 1}})
    ranking = [f"p{i}" for i in range(1, 101)]
    group, account = only(mined(collection, {"q": ranking}, n_negatives=20))
    assert [len(account.taken[band]) for band in Band] == [0, 12, 5, 3]
    assert all(rank_of(pid) <= 20 for pid in account.taken[Band.HARD])
    assert all(21 <= rank_of(pid) <= 100 for pid in account.taken[Band.MID])
    assert all(rank_of(pid) > 100 for pid in account.taken[Band.RANDOM])
    assert group.negative_ids == tuple(pid for band in Band for pid in account.taken[band])
    assert len(set(group.negative_ids)) == 20


def test_own_answer_counts_as_a_rank():
    collection = collection_of(ranked_corpus(30), {"q": {"own": 1}})
    ranking = ["own", "p1", "p2", "p3"]
    _, account = only(mined(collection, {"q": ranking}, n_negatives=4, hard_last_rank=2, mid_last_rank=4))
    assert account.taken[Band.HARD] == ("p1",)  # rank 2: the hard window is spent
    assert set(account.taken[Band.MID]) == {"p2", "p3"}  # quota 1, and 1 for the missing hard one
    assert len(account.taken[Band.RANDOM]) == 1


@pytest.mark.parametrize(
    ("n_ranked", "n_all", "taken"),
    [
        (2, 300, [2, 0, 18]),  # hard 2 of 12, no mid: the rest at random
        (22, 300, [15, 2, 3]),  # mid 2 of 5: hard gives 3 more
        (100, 100, [15, 5, 0]),  # nothing unranked: hard gives 3 more
        (10, 10, [10, 0, 0]),  # the whole corpus: short, and kept
    ],
)
def test_a_short_band_is_topped_up(n_ranked, n_all, taken):
    collection = collection_of(ranked_corpus(n_all), {"q": {"own": 1}})
    result = mined(collection, {"q": [f"p{i}" for i in range(1, n_ranked + 1)]}, n_negatives=20)
    _, account = only(result)
    assert [len(account.taken[band]) for band in (Band.HARD, Band.MID, Band.RANDOM)] == taken
    assert result.account.totals.n_short == (sum(taken) < 20)


def test_judged_negatives_come_first_and_are_exempt_from_the_margin():
    texts = ranked_corpus(50) | {"no1": "judged one", "no2": "judged two", "nocopy": "The Answer!"}
    collection = collection_of(texts, {"q": {"own": 1, "no1": 0, "no2": -1, "nocopy": 0}})
    cosines = {"own": 0.5, "no1": 0.9, "no2": 0.6}
    ranking = ["no1", *(f"p{i}" for i in range(1, 51))]
    _, account = only(mined(collection, {"q": ranking}, cosines=cosines))
    assert set(account.taken[Band.JUDGED]) == {"no1", "no2"}
    assert account.removed == {Reason.EQUAL_TEXT: ("nocopy",)}  # judged both ways: not to be trusted
    assert [len(account.taken[band]) for band in Band] == [2, 2, 1, 0]  # 3 left: 1.8 0.75 0.45
    few, account = only(mined(collection, {"q": ranking}, cosines=cosines, n_negatives=1))
    assert few.negative_ids == account.taken[Band.JUDGED]
    assert few.negative_ids[0] in ("no1", "no2")


def test_a_judged_negative_that_answers_a_test_question_is_protected():
    collection = collection_of({"own": "a", "no": "b", "p1": "c"}, {"q": {"own": 1, "no": 0}})
    group, account = only(mined(collection, {"q": []}, protected=["no"]))
    assert group.negative_ids == ("p1",)
    assert account.removed[Reason.PROTECTED] == ("no",)


def test_a_group_without_a_negative_is_dropped_and_counted():
    collection = collection_of({"own": "a", "dev": "b"}, {"q": {"own": 1}, "r": {"own": 0}})
    result = mined(collection, {"q": ["dev"], "r": []}, query_ids=("q", "r"), protected=["dev"])
    totals = result.account.totals
    assert result.groups == ()
    assert (totals.n_groups, totals.n_short, totals.n_dropped) == (0, 0, 1)
    assert totals.queries_without_positive == ("r",)
    assert totals.removed["answer of a dev or test question"] == 1
    assert only_dropped(result) == "q"


def only_dropped(result):
    return next(group.query_id for group in result.account.groups if not group.negative_ids)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rankings": {}}, "does not cover training query 'q'"),
        ({"rankings": {"q": ["ghost"]}}, "passage 'ghost'"),
        ({"rankings": {"q": []}, "protected": ["ghost"]}, "'ghost'"),
    ],
)
def test_what_does_not_belong_together_is_refused(change, message):
    collection = collection_of({"own": "a", "p1": "b"}, {"q": {"own": 1}})
    with pytest.raises(ConfigError, match=message):
        mined(collection, **change)


def larger():
    """30 questions over 330 passages, in a form that a subprocess can build too."""
    texts = {f"p{i}": f"passage number {i}" for i in range(330)}
    qrels = {f"q{i}": {f"p{i}": 1, f"p{i + 30}": 1} for i in range(30)}
    rankings = {f"q{i}": [f"p{(i * 7 + j * 3) % 330}" for j in range(100)] for i in range(30)}
    return texts, qrels, rankings


def groups_of(query_ids=None, **settings):
    texts, qrels, rankings = larger()
    return mined(collection_of(texts, qrels), rankings, query_ids or tuple(qrels), **settings).groups


def test_the_same_twice_and_in_any_order():
    groups = groups_of()
    assert len(groups) == 60
    assert groups_of() == groups
    backwards = groups_of(tuple(larger()[1])[::-1])
    assert [group.query_id for group in backwards[:2]] == ["q29", "q29"]
    assert sorted(backwards, key=repr) == sorted(groups, key=repr)
    assert groups_of(("q7",)) == tuple(group for group in groups if group.query_id == "q7")


def test_another_seed_is_another_choice_and_two_positives_get_two():
    groups = groups_of()
    assert groups_of(seed=1) != groups
    assert {group.negative_ids for group in groups if group.query_id == "q3"} != {groups[6].negative_ids}


def test_the_same_in_another_process_with_other_string_hashes():
    code = (
        "import importlib.util, json, sys\n"
        "spec = importlib.util.spec_from_file_location('here', sys.argv[1])\n"
        "here = importlib.util.module_from_spec(spec)\n"
        "spec.loader.exec_module(here)\n"
        "print(json.dumps([[g.query_id, g.positive_id, *g.negative_ids] for g in here.groups_of()]))\n"
    )
    expected = [[g.query_id, g.positive_id, *g.negative_ids] for g in groups_of()]
    for seed in ("1", "2"):
        found = subprocess.run(
            [sys.executable, "-c", code, __file__],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        )
        assert json.loads(found.stdout) == expected


def test_random_negatives_spread_over_the_corpus():
    # 200 questions draw 5 of 1,000 passages each; no passage is likely to be drawn 10 times (mean 1).
    texts = {f"p{i}": f"passage number {i}" for i in range(1000)}
    qrels = {f"q{i}": {f"p{i}": 1} for i in range(200)}
    result = mined(collection_of(texts, qrels), {query_id: [] for query_id in qrels}, tuple(qrels))
    drawn = [pid for group in result.groups for pid in group.negative_ids]
    assert len(drawn) == 1000
    counts = np.bincount([rank_of(pid) for pid in drawn], minlength=1000)
    assert counts.max() < 10
    assert 550 < np.count_nonzero(counts) < 710  # 1 - 1/e of them: about 632
