"""Scores that clients see: worked out by hand from the model's logits."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.special import expit

from crosstune.bundle import load_bundle
from crosstune.errors import BundleError
from crosstune.scoring import Reranker
from crosstune.serving.dialects import RerankRequest
from crosstune.serving.ranking import rank, warm_up
from crosstune.types import Calibration, Fusion, Part

TEXTS = ("download the invoice", "reset your password", "a refund is paid")


def request(texts=TEXTS, first_stage_scores=None, raw_scores=False, query="reset the password"):
    return RerankRequest(query, tuple(texts), tuple(texts), first_stage_scores, None, False, raw_scores)


def with_fusion(model, *fusion):
    return Reranker(replace(load_bundle(model), fusion=Fusion("bm25", *fusion) if fusion else None))


def give(monkeypatch, reranker, *logits):
    monkeypatch.setattr(reranker.scorer, "score_pairs", lambda pairs, progress=None: np.array(logits[: len(pairs)]))


def pairs(ranking):
    return [(item.index, item.score) for item in ranking.items]


def test_the_calibrated_probability_of_the_whole_score(held, monkeypatch):
    held.give(monkeypatch, 1.0, 3.0)
    # 10 and 0 standardise to 1 and -1: scores 0.7 + 2 = 2.7 and 2.1 - 2 = 0.1; calibrated by temperature 4, bias 0.5.
    found = pairs(rank(held, request(TEXTS[:2], (10.0, 0.0)), None))
    assert [index for index, _ in found] == [0, 1]
    assert [score for _, score in found] == pytest.approx([expit(2.7 / 4 + 0.5), expit(0.1 / 4 + 0.5)])


def test_the_calibrated_probability_of_the_logit_alone(held, monkeypatch):
    # Without first-stage scores nothing but the cross-encoder ranks: temperature 2, bias -1.
    held.give(monkeypatch, 1.0, 3.0)
    found = pairs(rank(held, request(TEXTS[:2]), None))
    assert [index for index, _ in found] == [1, 0]
    assert [score for _, score in found] == pytest.approx([expit(3 / 2 - 1), expit(1 / 2 - 1)])


def test_scores_never_contradict_the_ranking(model, monkeypatch):
    # Words count 100 times: text 1 has both words of the question, but the lowest logit, and so the lowest
    # probability. With the first stage missing the score goes through the scale of the whole.
    weights = {Part.CROSS_ENCODER: 1.0, Part.LEXICAL: 100.0, Part.FIRST_STAGE: 1.0}
    reranker = with_fusion(model, weights, "und", Calibration(50.0, -1.0, 0.5, 0, 0, 1))
    give(monkeypatch, reranker, 5.0, -5.0, 4.0)
    ranked = reranker.rank("reset password", TEXTS)
    assert ranked[0].index == 1
    assert ranked[0].probability < ranked[1].probability
    found = rank(reranker, request(query="reset password"), None)
    scores = [item.score for item in found.items]
    assert scores == pytest.approx([expit(item.score / 50 - 1) for item in ranked])
    assert scores == sorted(scores, reverse=True)


def test_without_any_scale_a_sigmoid(model, monkeypatch):
    reranker = with_fusion(model, {Part.CROSS_ENCODER: 0.5}, "und", None)
    give(monkeypatch, reranker, 1.0, 3.0)
    assert [score for _, score in pairs(rank(reranker, request(TEXTS[:2]), None))] == pytest.approx(
        [expit(1.5), expit(0.5)]
    )


def test_raw_scores_are_what_the_ranking_is_by(held, monkeypatch):
    held.give(monkeypatch, 1.0, 3.0)
    assert pairs(rank(held, request(TEXTS[:2], (10.0, 0.0), raw_scores=True), None)) == [
        (0, pytest.approx(2.7)),
        (1, pytest.approx(0.1)),
    ]


@pytest.mark.parametrize("raw", [False, True])
def test_what_a_deadline_leaves_stands_last(held, raw):
    texts = [f"{TEXTS[i % 3]} {i}" for i in range(12)]
    found = rank(held, request(texts, tuple(float(i) for i in range(12)), raw_scores=raw), 0.001)
    # The 8 best of the first stage are read: 11 to 4. The others follow in its order.
    assert [item.index for item in found.items[8:]] == [3, 2, 1, 0]
    assert {item.index for item in found.items[:8]} == set(range(4, 12))
    scores = [item.score for item in found.items]
    assert scores == sorted(scores, reverse=True)
    assert scores[8:] == ([scores[7] - 1] * 4 if raw else [0.0] * 4)
    assert found.n_scored == 8
    assert found.warnings == ("the deadline came before 4 of 12 documents; they stand last, unread",)


def test_tokens_are_those_of_all_pairs(held):
    encoded = held.scorer.encode([("reset the password", text) for text in TEXTS])
    assert rank(held, request(), None).n_tokens == sum(len(pair.ids) for pair in encoded)


def test_what_was_cut_is_said(held):
    found = rank(held, request([TEXTS[0], "the refund " * 200]), None)
    assert found.warnings == ("1 of 2 documents were cut: query and document have 64 tokens",)


def test_a_missing_part_is_said(model):
    reranker = with_fusion(model, {Part.CROSS_ENCODER: 1.0, Part.BI_ENCODER: 1.0}, "und", None)
    assert rank(reranker, request(), None).warnings == ("ranked without the part bi_encoder",)


@pytest.mark.filterwarnings("ignore:invalid value")
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_scores_that_are_not_finite(held, monkeypatch, bad):
    held.give(monkeypatch, 1.0, bad)
    with pytest.raises(ValueError, match="finite"):
        rank(held, request(TEXTS[:2]), None)
    with pytest.raises(BundleError, match="cannot rank"):
        warm_up(held)


def test_a_model_that_tells_nothing_apart(held, monkeypatch):
    warm_up(held)
    held.give(monkeypatch, 0.25, 0.25)
    # 0.7 times the logit.
    with pytest.raises(BundleError, match=r"scores two passages that have nothing in common 0\.175 and 0\.175"):
        warm_up(held)
