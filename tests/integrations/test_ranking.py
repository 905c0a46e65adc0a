import math
import threading
from dataclasses import replace

import pytest

from crosstune.errors import BundleError, ConfigError
from crosstune.integrations.ranking import best, check, complete, opened, probabilities
from crosstune.scoring import Reranker
from crosstune.types import Fusion, Part

QUESTION = "reset the password"
TEXTS = ["download the invoice", "reset your password", "a refund is paid", "export the report of the password"]
SCORES = [0.9, 0.1, 0.4, 0.7]


def probability(logit):
    return 1 / (1 + math.exp(1 - logit / 2))


@pytest.mark.parametrize("scores", [None, SCORES])
def test_the_order_and_figures_are_the_rerankers(model, scores):
    expected = model.rank(QUESTION, TEXTS, scores)
    found = best(model, QUESTION, TEXTS, first_stage_scores=scores)
    assert [(r.index, r.rank, r.score, r.probability) for r in found] == [
        (r.index, r.rank, r.score, r.probability) for r in expected
    ]
    assert {type(r.score) for r in found} == {float}


@pytest.mark.parametrize("scores", [None, SCORES])
def test_relevance_never_rises_with_the_rank(model, scores):
    relevances = [r.relevance for r in best(model, QUESTION, TEXTS, first_stage_scores=scores)]
    assert relevances == sorted(relevances, reverse=True)
    assert len(set(relevances)) == 4


class TestRelevance:
    def test_is_the_probability_where_that_is_of_the_score(self, models):
        for name in ("plain", "joined", "bi-encoder"):
            assert all(r.relevance == r.probability for r in best(models[name], QUESTION, TEXTS))
        found = best(models["with first stage"], QUESTION, TEXTS, first_stage_scores=SCORES)
        assert all(r.relevance == r.probability for r in found)

    def test_is_the_score_where_the_probability_would_order_otherwise(self, models):
        # Without the first stage's score the rest ranks, and the probability is the logit's: here words decide, and
        # the probability of what comes first is not the highest.
        fusion = Fusion("dense", {Part.CROSS_ENCODER: 0.01, Part.LEXICAL: 9.0, Part.FIRST_STAGE: 1.0}, "und", None)
        found = best(Reranker(replace(models["plain"].bundle, fusion=fusion)), QUESTION, TEXTS)
        assert [r.relevance for r in found] == [r.score for r in found]
        chances = [r.probability for r in found]
        assert chances != sorted(chances, reverse=True)


class TestThreshold:
    texts = ("a 2", "b 4", "c 0", "d 3")  # probabilities 0.5, 0.731, 0.269, 0.622

    @pytest.mark.parametrize(
        ("threshold", "kept"),
        [(None, [1, 3, 0, 2]), (0.5, [1, 3, 0]), (0.7, [1]), (0.8, []), ("answers", [1, 3]), (0, [1, 3, 0, 2])],
    )
    def test_keeps_what_reaches_it(self, scripted, threshold, kept):
        found = best(scripted, "q", self.texts, threshold=threshold)
        assert [r.index for r in found] == kept
        assert [r.rank for r in found] == list(range(1, len(kept) + 1))

    def test_and_at_most_so_many(self, scripted):
        assert [r.index for r in best(scripted, "q", self.texts, 2, 0.5)] == [1, 3]
        assert [r.index for r in best(scripted, "q", self.texts, 9)] == [1, 3, 0, 2]

    def test_without_a_probability_it_is_refused_and_not_everything_dropped(self, models):
        bundle = replace(models["bi-encoder"].bundle, fusion=Fusion("dense", {Part.BI_ENCODER: 1.0}, "und", None))
        for threshold in (0.5, "answers"):
            with pytest.raises(ConfigError, match="needs probabilities and this ranking has none"):
                best(Reranker(bundle), QUESTION, TEXTS, threshold=threshold)

    @pytest.mark.parametrize("threshold", [-0.1, 1.1, math.nan, "sure"])
    def test_that_is_no_probability(self, threshold):
        with pytest.raises(ConfigError, match="probability from 0 to 1"):
            check(None, threshold)

    @pytest.mark.parametrize("top_n", [0, -1])
    def test_of_no_documents(self, top_n):
        with pytest.raises(ConfigError, match=f"at least 1 document must be returned, found {top_n}"):
            check(top_n, None)


def test_nothing_to_rank_asks_no_model(scripted):
    assert best(scripted, "q", [], 5, "answers", []) == []
    assert scripted.seen == []


def test_a_question_that_is_no_text(scripted):
    with pytest.raises(ConfigError, match="question must be a text, found NoneType"):
        best(scripted, None, ["a 1"])


def test_wrong_first_stage_scores_are_the_rerankers_error(models):
    with pytest.raises(ConfigError, match="4 passages but 1 first-stage scores"):
        best(models["plain"], QUESTION, TEXTS, first_stage_scores=[1.0])


def test_two_threads_never_score_at_once(scripted):
    scripted.delay_s = 0.02
    answers = {}
    threads = [
        threading.Thread(target=lambda i=i: answers.update({i: best(scripted, f"q{i}", ["a 1", f"b {i}"])}))
        for i in range(6)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert scripted.most_busy == 1
    assert {i: found[0].index for i, found in answers.items()} == {0: 0, 1: 0, 2: 1, 3: 1, 4: 1, 5: 1}


def test_many_threads_get_what_one_gets(model):
    expected = {q: best(model, q, TEXTS) for q in (QUESTION, "invoice", "refund paid", "report")}
    found = []

    def work(query):
        found.append((query, best(model, query, TEXTS)))

    threads = [threading.Thread(target=work, args=(query,)) for query in expected for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 12
    assert all(ranked == expected[query] for query, ranked in found)


def test_probabilities_are_of_each_pair_alone(scripted):
    found = probabilities(scripted, "q", ["a 2", "b 4"])
    assert found == pytest.approx([probability(2), probability(4)])
    assert {type(p) for p in found} == {float}


def test_probabilities_need_a_cross_encoder(models):
    with pytest.raises(BundleError, match="no cross-encoder"):
        probabilities(models["bi-encoder"], "q", ["a"])


@pytest.mark.parametrize(
    ("scores", "expected"),
    [([1.0, 0.0], [1.0, 0.0]), ([], []), ([1.0, None], None), ([1.0, math.nan], None), ([math.inf], None)],
)
def test_first_stage_scores_count_when_all_are_there(scores, expected):
    assert complete(scores) == expected


def test_opened(folders, models):
    assert opened(models["plain"]) is models["plain"]
    for path in (folders["plain"], str(folders["plain"]), folders["plain"].parent):
        assert opened(path).bundle.path == folders["plain"]
    with pytest.raises(BundleError, match="not a crosstune model folder"):
        opened(folders["plain"].parent.parent)
