import numpy as np
import pytest
from scipy.special import expit

from crosstune.bundle import ModelBundle, load_bundle, save_bundle
from crosstune.errors import BundleError, ConfigError
from crosstune.scoring import Reranker
from crosstune.types import Calibration, Fusion, ScoreKind

PASSAGES = ["download the invoice", "reset your password", "a refund is paid", "export the report"]


@pytest.fixture(scope="module")
def folder(load, bert, tmp_path_factory):
    path = tmp_path_factory.mktemp("run") / "model"
    loaded = load(bert)
    bundle = ModelBundle(
        path,
        64,
        ScoreKind.LOGIT,
        "base",
        "r",
        "f",
        "fp32",
        Calibration(2.0, -1.0, 0.25, 0, 0, 1),
        Fusion("bm25", 0.7),
    )
    save_bundle(bundle, loaded.model, loaded.tokenizer)
    return path


@pytest.fixture
def reranker(folder):
    return Reranker.load(folder)


def scores_of(reranker, monkeypatch, logits):
    """Make the model give these logits."""
    monkeypatch.setattr(reranker.scorer, "score_pairs", lambda pairs, progress=None: np.array(logits[: len(pairs)]))


def test_best_first_with_everything_said(reranker):
    ranked = reranker.rank("reset my password", PASSAGES)
    logits = reranker.scorer.score_pairs([("reset my password", passage) for passage in PASSAGES])
    assert [r.rank for r in ranked] == [1, 2, 3, 4]
    assert [r.index for r in ranked] == np.argsort(-logits).tolist()
    for found in ranked:
        assert found.logit == found.score == pytest.approx(logits[found.index], abs=1e-6)
        assert found.probability == pytest.approx(expit(logits[found.index] / 2 - 1), abs=1e-6)


def test_ties_keep_input_order(reranker, monkeypatch):
    scores_of(reranker, monkeypatch, [1.0, 2.0, 1.0, 2.0])
    assert [r.index for r in reranker.rank("q", PASSAGES)] == [1, 3, 0, 2]


def test_the_no_answer_threshold(reranker, monkeypatch):
    # sigmoid(z / 2 - 1) reaches 0.25 at z = 2 - 2 ln 3 = -0.197.
    scores_of(reranker, monkeypatch, [-0.19, -0.20, 3.0, -3.0])
    assert {r.index: r.answers for r in reranker.rank("q", PASSAGES)} == {
        0: True,
        1: False,
        2: True,
        3: False,
    }


def test_fusion_by_hand(reranker, monkeypatch):
    scores_of(reranker, monkeypatch, [1.0, 3.0])
    # Standardised -1, 1 and 1, -1; weight 0.7 of the logits.
    ranked = reranker.rank("q", PASSAGES[:2], first_stage_scores=[10.0, 0.0])
    assert [(r.index, r.logit) for r in ranked] == [(1, 3.0), (0, 1.0)]
    assert [r.score for r in ranked] == pytest.approx([0.4, -0.4])
    ranked = reranker.rank("q", PASSAGES[:2])
    assert [r.score for r in ranked] == [3.0, 1.0]


def test_without_recommended_fusion_first_stage_scores_do_not_count(folder, monkeypatch):
    from dataclasses import replace

    reranker = Reranker(replace(load_bundle(folder), fusion=None))
    scores_of(reranker, monkeypatch, [1.0, 3.0])
    assert [r.score for r in reranker.rank("q", PASSAGES[:2], first_stage_scores=[99.0, 0.0])] == [3.0, 1.0]


@pytest.mark.parametrize("scores", [[], [1.0], [1.0] * 5])
def test_not_one_first_stage_score_for_each_passage(reranker, scores):
    with pytest.raises(ConfigError, match=f"4 passages but {len(scores)}"):
        reranker.rank("q", PASSAGES, first_stage_scores=scores)


def test_no_passages(reranker):
    assert reranker.rank("q", []) == []
    assert reranker.rank("q", [], first_stage_scores=[]) == []


def test_texts_without_a_token(reranker):
    assert len(reranker.rank("", ["", "\u200b", "refund"])) == 3


def test_probabilities_keep_input_order(reranker):
    pairs = [("refund", passage) for passage in PASSAGES]
    expected = expit(reranker.scorer.score_pairs(pairs) / 2 - 1)
    np.testing.assert_allclose(reranker.probabilities(pairs), expected, atol=1e-9)
    assert reranker.probabilities([]).shape == (0,)


def test_from_the_run_folder_and_by_precision(folder):
    assert Reranker.load(folder.parent).scorer.precision == "fp32"
    assert Reranker.load(folder, precision="bf16").scorer.precision == "bf16"
    with pytest.raises(ConfigError, match="int8"):
        Reranker.load(folder, precision="int8")


def test_not_a_model_folder(tmp_path):
    with pytest.raises(BundleError, match="not a crosstune model folder"):
        Reranker.load(tmp_path)
