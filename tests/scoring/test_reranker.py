import math
import shutil
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from scipy.special import expit

from crosstune.bi_encoder import SentenceTransformerEmbedder
from crosstune.bundle import BI_ENCODER, ModelBundle, load_bundle, save_bundle
from crosstune.checkpoints import resolve
from crosstune.errors import BundleError, ConfigError, MissingExtraError
from crosstune.known_questions import KnownQuestions
from crosstune.scoring import Reranker, TorchScorer
from crosstune.scoring import reranker as module
from crosstune.scoring.cache import ScoreCache
from crosstune.text import content_hash
from crosstune.types import Calibration, Fusion, Part, Reading, ScoreKind

CROSS, BI, WORDS, FIRST = Part.CROSS_ENCODER, Part.BI_ENCODER, Part.LEXICAL, Part.FIRST_STAGE
QUESTION = "reset the password"
PASSAGES = ["download the invoice", "reset your password", "a refund is paid", "export the report of the password"]
OF_LOGIT = Calibration(2.0, -1.0, 0.25, 0, 0, 1)
OF_SCORE = Calibration(4.0, 0.5, 0.7, 0, 0, 1)
WITH_FIRST_STAGE = Fusion("bm25", {CROSS: 0.7, FIRST: 2.0}, "und", OF_SCORE)
# Weights of about one over each part's spread, so that no part drowns the others.
ALL_MODELS = Fusion("bm25", {CROSS: 0.8, BI: 9.0, WORDS: 0.5}, "und", OF_SCORE)
NO_CROSS_ENCODER = Fusion("bm25", {BI: 9.0, WORDS: 0.5}, "und", OF_SCORE)


def bundle_at(path, fusion):
    return ModelBundle(path, 64, ScoreKind.LOGIT, "base", "r", "f", "fp32", OF_LOGIT, fusion)


@pytest.fixture(scope="module")
def folder(load, bert, tmp_path_factory):
    path = tmp_path_factory.mktemp("run") / "model"
    loaded = load(bert)
    save_bundle(bundle_at(path, WITH_FIRST_STAGE), (loaded.model, loaded.tokenizer))
    return path


@pytest.fixture(scope="module")
def both(load, bert, bare_bert, tmp_path_factory):
    """Folder with a cross-encoder and a bi-encoder, joined with shared words."""
    path = tmp_path_factory.mktemp("both") / "model"
    loaded = load(bert)
    save_bundle(bundle_at(path, ALL_MODELS), (loaded.model, loaded.tokenizer), bare_bert)
    return path


@pytest.fixture(scope="module")
def bi_only(bare_bert, tmp_path_factory):
    """Folder with a bi-encoder, joined with shared words."""
    path = tmp_path_factory.mktemp("bi") / "model"
    save_bundle(bundle_at(path, NO_CROSS_ENCODER), None, bare_bert)
    return path


@pytest.fixture
def reranker(folder):
    return Reranker.load(folder)


def with_fusion(folder, *fusion):
    """The reranker of a folder with another recommended score."""
    return Reranker(replace(load_bundle(folder), fusion=Fusion("bm25", *fusion) if fusion else None))


def scores_of(reranker, monkeypatch, logits):
    """Make the model give these logits."""
    monkeypatch.setattr(reranker.scorer, "score_pairs", lambda pairs, progress=None: np.array(logits[: len(pairs)]))


@pytest.fixture(scope="module")
def expected(load, bert, bare_bert):
    """Part -> scores of `PASSAGES` for `QUESTION`, each computed without the code under test."""
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(str(bare_bert), device="cpu")
    unit = model.encode([QUESTION, *PASSAGES], normalize_embeddings=True).astype(np.float64)
    return {
        CROSS: TorchScorer(*vars(load(bert)).values(), 64).score_pairs([(QUESTION, passage) for passage in PASSAGES]),
        BI: unit[1:] @ unit[0],
        WORDS: np.array(bm25(QUESTION, PASSAGES)),
    }


def bm25(question, texts):
    """Lucene's BM25 with k1 1.2 and b 0.75, of words between blanks."""
    counts = [Counter(text.split()) for text in texts]
    mean = sum(count.total() for count in counts) / len(counts)

    def score(word, count):
        n_with = sum(word in other for other in counts)
        idf = math.log(1 + (len(texts) - n_with + 0.5) / (n_with + 0.5))
        return idf * count[word] / (count[word] + 1.2 * (0.25 + 0.75 * count.total() / mean))

    return [sum(score(word, count) for word in question.split()) for count in counts]


def joined(expected, weights):
    return sum(weight * expected[part] for part, weight in weights.items())


def by_index(ranked, name):
    return [getattr(item, name) for item in sorted(ranked, key=lambda item: item.index)]


class TestCrossEncoderAlone:
    def test_best_first_with_everything_said(self, folder, expected):
        ranked = with_fusion(folder).rank(QUESTION, PASSAGES)
        assert [r.rank for r in ranked] == [1, 2, 3, 4]
        assert [r.index for r in ranked] == np.argsort(-expected[CROSS]).tolist()
        for found in ranked:
            logit = expected[CROSS][found.index]
            assert found.logit == found.score == pytest.approx(logit, abs=1e-6)
            assert found.probability == pytest.approx(expit(logit / 2 - 1), abs=1e-6)

    def test_ties_keep_input_order(self, reranker, monkeypatch):
        scores_of(reranker, monkeypatch, [1.0, 2.0, 1.0, 2.0])
        assert [r.index for r in reranker.rank("q", PASSAGES)] == [1, 3, 0, 2]

    def test_the_no_answer_threshold(self, reranker, monkeypatch):
        # sigmoid(z / 2 - 1) reaches 0.25 at z = 2 - 2 ln 3 = -0.197.
        scores_of(reranker, monkeypatch, [-0.19, -0.20, 3.0, -3.0])
        assert by_index(reranker.rank("q", PASSAGES), "answers") == [True, False, True, False]

    def test_first_stage_scores_do_not_count_when_they_were_not_judged(self, folder, monkeypatch):
        for reranker in (with_fusion(folder), with_fusion(folder, {CROSS: 1.0}, "und", OF_SCORE)):
            scores_of(reranker, monkeypatch, [1.0, 3.0])
            ranked = reranker.rank("q", PASSAGES[:2], first_stage_scores=[99.0, 0.0])
            assert [(r.index, r.score) for r in ranked] == [(1, 3.0), (0, 1.0)]


class TestFirstStageScores:
    def test_they_join_in_standardised_by_hand(self, reranker, monkeypatch):
        scores_of(reranker, monkeypatch, [1.0, 3.0])
        # 10 and 0 standardise to 1 and -1: 0.7 * 1 + 2 * 1 = 2.7 and 0.7 * 3 - 2 = 0.1.
        ranked = reranker.rank("q", PASSAGES[:2], first_stage_scores=[10.0, 0.0])
        assert [(r.index, r.logit) for r in ranked] == [(0, 1.0), (1, 3.0)]
        assert [r.score for r in ranked] == pytest.approx([2.7, 0.1])
        # The score was calibrated whole: sigmoid(2.7 / 4 + 0.5) = 0.764 and sigmoid(0.1 / 4 + 0.5) = 0.628.
        assert [r.probability for r in ranked] == pytest.approx([0.7640, 0.6283], abs=1e-4)
        assert [r.answers for r in ranked] == [True, False]  # its threshold is 0.7

    def test_their_scale_does_not_count(self, reranker):
        plain = reranker.rank(QUESTION, PASSAGES, [4.0, 3.0, 2.0, 1.0])
        scaled = reranker.rank(QUESTION, PASSAGES, [0.04, 0.03, 0.02, 0.01])
        assert [r.index for r in scaled] == [r.index for r in plain]
        assert [r.score for r in scaled] == pytest.approx([r.score for r in plain])

    def test_without_them_the_rest_ranks_and_the_logits_own_scale_holds(self, reranker, monkeypatch):
        scores_of(reranker, monkeypatch, [1.0, 3.0])
        ranked = reranker.rank("q", PASSAGES[:2])
        assert [(r.index, r.logit) for r in ranked] == [(1, 3.0), (0, 1.0)]
        assert [r.score for r in ranked] == pytest.approx([2.1, 0.7])
        # sigmoid(3 / 2 - 1) and sigmoid(1 / 2 - 1); the threshold is the logit's, 0.25.
        assert [r.probability for r in ranked] == pytest.approx([0.6225, 0.3775], abs=1e-4)
        assert [r.answers for r in ranked] == [True, True]

    def test_a_first_stage_that_ships_as_it_is_orders_alone(self, folder, monkeypatch):
        reranker = with_fusion(folder, {FIRST: 1.0}, "und", OF_SCORE)
        scores_of(reranker, monkeypatch, [1.0, 3.0, 2.0, 0.0])
        ranked = reranker.rank("q", PASSAGES, first_stage_scores=[1.0, 2.0, 4.0, 3.0])
        assert [r.index for r in ranked] == [2, 3, 1, 0]
        assert {r.logit for r in ranked} == {None}
        # Without its scores there is still the cross-encoder.
        assert [r.index for r in reranker.rank("q", PASSAGES)] == [1, 2, 0, 3]

    @pytest.mark.parametrize("scores", [[], [1.0], [1.0] * 5])
    def test_not_one_for_each_passage(self, reranker, scores):
        with pytest.raises(ConfigError, match=f"4 passages but {len(scores)}"):
            reranker.rank("q", PASSAGES, first_stage_scores=scores)


class TestAllModels:
    def test_the_score_is_the_weighted_sum_of_the_parts(self, both, expected):
        found = Reranker.load(both)
        assert found.missing == {}
        ranked = found.rank(QUESTION, PASSAGES)
        scores = joined(expected, ALL_MODELS.weights)
        assert [r.score for r in ranked] == sorted((r.score for r in ranked), reverse=True)
        assert by_index(ranked, "score") == pytest.approx(scores.tolist(), abs=1e-4)
        assert by_index(ranked, "logit") == pytest.approx(expected[CROSS].tolist(), abs=1e-5)
        assert by_index(ranked, "probability") == pytest.approx(expit(scores / 4 + 0.5).tolist(), abs=1e-4)
        assert by_index(ranked, "answers") == (expit(scores / 4 + 0.5) >= 0.7).tolist()

    def test_an_answer_to_a_known_question_stands_out(self, both, expected, tmp_path):
        folder = tmp_path / "model"
        shutil.copytree(both, folder)
        vectors = SentenceTransformerEmbedder(resolve(str(folder / BI_ENCODER)), precision="fp32")
        known = KnownQuestions(vectors.embed_queries([QUESTION]), {content_hash(PASSAGES[2]): [0]}, threshold=0.9)
        (folder / "known-questions").mkdir()
        known.save(folder / "known-questions" / "vectors.safetensors")
        weights = ALL_MODELS.weights | {Part.KNOWN_QUESTION: 5.0}
        reranker = with_fusion(folder, weights, "und", OF_SCORE)
        assert reranker.parts() == tuple(weights)
        ranked = reranker.rank(QUESTION, PASSAGES)
        scores = joined(expected, ALL_MODELS.weights) + np.array([0, 0, 2 * 5.0, 0])  # it is the very question
        assert by_index(ranked, "score") == pytest.approx(scores.tolist(), abs=0.1)  # half precision, over 1 - 0.9
        other = reranker.rank("export the report", PASSAGES)
        assert by_index(other, "score") == by_index(Reranker.load(both).rank("export the report", PASSAGES), "score")
        cached = reranker.with_cache(tmp_path / "scores.db")
        assert cached.rank(QUESTION, PASSAGES) == cached.rank(QUESTION, PASSAGES)
        assert len(ScoreCache(tmp_path / "scores.db")) == 12

    def test_known_questions_that_are_missing_are_told(self, both):
        reranker = with_fusion(both, ALL_MODELS.weights | {Part.KNOWN_QUESTION: 5.0}, "und", OF_SCORE)
        assert reranker.missing == {Part.KNOWN_QUESTION: f"{both} holds no known questions"}
        assert reranker.parts() == (CROSS, BI, WORDS)

    def test_a_missing_bi_encoder_is_told_and_the_others_rank_on(self, both, expected, tmp_path):
        folder = tmp_path / "model"
        shutil.copytree(both, folder, ignore=shutil.ignore_patterns(BI_ENCODER))
        reranker = Reranker.load(folder)
        assert reranker.missing == {BI: f"{folder} holds no bi-encoder"}
        assert reranker.parts() == (CROSS, WORDS)
        ranked = reranker.rank(QUESTION, PASSAGES)
        scores = joined(expected, {CROSS: 0.8, WORDS: 0.5})
        assert by_index(ranked, "score") == pytest.approx(scores.tolist(), abs=1e-5)
        # The whole score was calibrated and is not there; the logit's own scale is.
        assert by_index(ranked, "probability") == pytest.approx(expit(expected[CROSS] / 2 - 1).tolist(), abs=1e-5)

    def test_without_sentence_transformers_the_others_rank_on(self, both, monkeypatch):
        def absent(name, extra, what):
            raise MissingExtraError(extra, what)

        monkeypatch.setattr(module, "require", absent)
        reranker = Reranker.load(both)
        assert reranker.missing.keys() == {BI}
        assert "bi-encoder" in reranker.missing[BI]
        assert len(reranker.rank(QUESTION, PASSAGES)) == 4

    def test_a_missing_cross_encoder_is_told_and_there_is_no_probability(self, both, expected, tmp_path):
        shutil.copytree(both, tmp_path / "model")
        (tmp_path / "model" / "model.safetensors").unlink()
        reranker = Reranker.load(tmp_path / "model")
        assert reranker.missing == {CROSS: f"{tmp_path / 'model'} holds no cross-encoder"}
        ranked = reranker.rank(QUESTION, PASSAGES)
        scores = joined(expected, {BI: 9.0, WORDS: 0.5})
        assert by_index(ranked, "score") == pytest.approx(scores.tolist(), abs=1e-4)
        assert {(r.logit, r.probability, r.answers, r.reranked) for r in ranked} == {(None, None, False, True)}

    def test_a_bi_encoder_that_has_no_part_is_not_loaded(self, both, monkeypatch):
        monkeypatch.delattr(module, "SentenceTransformerEmbedder")
        assert with_fusion(both, {CROSS: 1.0}, "und", OF_SCORE).missing == {}

    def test_a_cache_spares_both_models(self, both, tmp_path, monkeypatch):
        plain = Reranker.load(both)
        expected, cached = plain.rank(QUESTION, PASSAGES), plain.with_cache(tmp_path / "scores.db")
        first = cached.rank(QUESTION, PASSAGES)
        assert by_index(first, "score") == pytest.approx(by_index(expected, "score"), abs=1e-6)
        assert len(ScoreCache(tmp_path / "scores.db")) == 8

        def refuse(*_):
            raise AssertionError("a model was asked")

        monkeypatch.setattr(TorchScorer, "_logits", refuse)
        monkeypatch.setattr(SentenceTransformerEmbedder, "_embed", refuse)
        assert cached.rank(QUESTION, PASSAGES) == first
        assert Reranker.load(both).with_cache(tmp_path / "scores.db").rank(QUESTION, PASSAGES) == first
        with pytest.raises(AssertionError, match="a model was asked"):
            plain.rank(QUESTION, PASSAGES)  # the one it was made from has no cache


class TestBiEncoderAlone:
    def test_ranks_by_the_parts_that_were_judged(self, bi_only, expected):
        ranked = Reranker.load(bi_only).rank(QUESTION, PASSAGES)
        scores = joined(expected, NO_CROSS_ENCODER.weights)
        assert [r.score for r in ranked] == sorted((r.score for r in ranked), reverse=True)
        assert by_index(ranked, "score") == pytest.approx(scores.tolist(), abs=1e-4)
        assert by_index(ranked, "probability") == pytest.approx(expit(scores / 4 + 0.5).tolist(), abs=1e-4)
        assert {(r.logit, r.reranked) for r in ranked} == {(None, True)}

    def test_pairs_have_no_logit(self, bi_only):
        reranker = Reranker.load(bi_only)
        with pytest.raises(BundleError, match="no cross-encoder"):
            reranker.scorer  # noqa: B018
        with pytest.raises(BundleError, match="no cross-encoder"):
            reranker.probabilities([("q", "p")])

    def test_a_cache_spares_it(self, bi_only, tmp_path, monkeypatch):
        cached = Reranker.load(bi_only).with_cache(tmp_path / "scores.db")
        first = cached.rank(QUESTION, PASSAGES)
        monkeypatch.delattr(SentenceTransformerEmbedder, "_embed")
        assert cached.rank(QUESTION, PASSAGES) == first

    def test_a_deadline_leaves_nobody_out(self, bi_only):
        reranker, many = Reranker.load(bi_only), [f"{passage} {i}" for i in range(3) for passage in PASSAGES]
        assert reranker.rank(QUESTION, many, deadline_ms=0.001) == reranker.rank(QUESTION, many)

    def test_nothing_to_rank_by_keeps_input_order(self, bi_only):
        reranker = with_fusion(bi_only)
        assert reranker.parts() == ()
        ranked = reranker.rank(QUESTION, PASSAGES)
        assert [(r.index, r.score, r.probability, r.answers) for r in ranked] == [
            (i, 0.0, None, False) for i in range(4)
        ]


class TestParts:
    @pytest.mark.parametrize(
        ("weights", "without", "with_scores"),
        [
            ({CROSS: 0.7, FIRST: 2.0}, (CROSS,), (CROSS, FIRST)),
            ({CROSS: 0.7, WORDS: 0.1}, (CROSS, WORDS), (CROSS, WORDS)),
            ({WORDS: 0.1, FIRST: 2.0}, (WORDS,), (WORDS, FIRST)),
            ({FIRST: 1.0}, (CROSS,), (FIRST,)),
            ({CROSS: 0.7, BI: 2.0}, (CROSS,), (CROSS,)),  # the folder holds no bi-encoder
        ],
    )
    def test_what_a_ranking_is_by(self, folder, weights, without, with_scores):
        reranker = with_fusion(folder, weights, "und", OF_SCORE)
        assert (reranker.parts(), reranker.parts(with_first_stage=True)) == (without, with_scores)

    def test_without_recommendation_it_is_the_cross_encoder(self, folder):
        assert with_fusion(folder).parts(with_first_stage=True) == (CROSS,)

    def test_words_are_cut_by_the_language_they_were_judged_in(self, folder):
        def scores(language):
            reranker = with_fusion(folder, {WORDS: 1.0}, language, OF_SCORE)
            return by_index(reranker.rank("Rechnung", ["alle Rechnungen", "ein Bericht"]), "score")

        # German: "Rechnungen" has the stem of "Rechnung". idf = ln(1 + 1.5 / 1.5); of two words, the mean: 1 / 2.2. (In
        # both texts one word is a stop word.)
        assert scores("de") == pytest.approx([math.log(2) / 2.2, 0.0])
        assert scores("und") == [0.0, 0.0]


def test_no_passages(reranker, both, bi_only):
    assert reranker.rank("q", [], first_stage_scores=[]) == []
    for found in (reranker, Reranker.load(both), Reranker.load(bi_only)):
        assert found.rank("q", []) == []


def test_texts_without_a_token(reranker, both, bi_only):
    for found in (reranker, Reranker.load(both), Reranker.load(bi_only)):
        ranked = found.rank("", ["", "\u200b", "refund"])
        assert len(ranked) == 3
        assert np.isfinite([r.score for r in ranked]).all()


def test_probabilities_are_the_logits_in_input_order(reranker):
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


CHEAP = {BI: 9.0, WORDS: 0.5}


class TestReading:
    """The cross-encoder reads the best by the other parts; the fusion of all is the same sum."""

    @pytest.fixture
    def reranker(self, both):
        reading = replace(ALL_MODELS, reading=Reading(2, CHEAP))
        return Reranker(replace(load_bundle(both), fusion=reading))

    def test_only_the_best_are_read_and_the_others_have_the_lowest_logit(self, reranker, expected, monkeypatch):
        order = np.argsort(-joined(expected, CHEAP), kind="stable").tolist()
        read, score = [], reranker.scorer.score_pairs
        monkeypatch.setattr(reranker.scorer, "score_pairs", lambda pairs: read.extend(pairs) or score(pairs))
        ranked = reranker.rank(QUESTION, PASSAGES)
        assert read == [(QUESTION, PASSAGES[i]) for i in order[:2]]
        logits = [expected[CROSS][i] if i in order[:2] else None for i in range(4)]
        assert [None if z is None else pytest.approx(z, abs=1e-5) for z in logits] == by_index(ranked, "logit")
        filled = np.array([min(expected[CROSS][order[:2]]) if z is None else z for z in logits])
        scores = joined(expected | {CROSS: filled}, ALL_MODELS.weights)
        assert by_index(ranked, "score") == pytest.approx(scores.tolist(), abs=1e-5)
        assert by_index(ranked, "probability") == pytest.approx(expit(scores / 4 + 0.5).tolist(), abs=1e-5)
        assert all(r.reranked for r in ranked)
        assert [r.index for r in ranked] == np.argsort(-scores).tolist()

    def test_few_passages_are_all_read(self, reranker, both):
        whole = Reranker.load(both)
        assert reranker.rank(QUESTION, PASSAGES[:2]) == whole.rank(QUESTION, PASSAGES[:2])
        assert reranker.rank(QUESTION, []) == []

    def test_input_order_does_not_decide_what_is_read(self, reranker):
        scores = dict(zip(PASSAGES, by_index(reranker.rank(QUESTION, PASSAGES), "score"), strict=True))
        for found in reranker.rank(QUESTION, PASSAGES[::-1]):
            assert found.score == pytest.approx(scores[PASSAGES[::-1][found.index]], abs=1e-5)

    def test_without_weights_the_first_stage_says_what_is_read(self, both, monkeypatch):
        bare = Fusion("bm25", {CROSS: 1.0}, "und", None, Reading(2, {}))
        reranker = Reranker(replace(load_bundle(both), fusion=bare))
        scores_of(reranker, monkeypatch, [1.0, 2.0, 3.0, 4.0])
        ranked = reranker.rank("q", PASSAGES, first_stage_scores=[0.0, 3.0, 1.0, 2.0])
        # Read are 1 and 3; the others have 1.0 as well, and input order decides.
        assert [(r.index, r.logit, r.score) for r in ranked] == [
            (3, 2.0, 2.0),
            (0, None, 1.0),
            (1, 1.0, 1.0),
            (2, None, 1.0),
        ]
        assert [r.index for r in reranker.rank("q", PASSAGES) if r.logit is not None] == [1, 0]

    def test_a_part_that_only_picks_is_computed(self, both, expected):
        fusion = Fusion("bm25", {CROSS: 1.0}, "und", OF_SCORE, Reading(1, {BI: 1.0}))
        ranked = Reranker(replace(load_bundle(both), fusion=fusion)).rank(QUESTION, PASSAGES)
        assert [r.index for r in ranked if r.logit is not None] == [int(np.argmax(expected[BI]))]
        assert [r.score for r in ranked] == pytest.approx([expected[CROSS][np.argmax(expected[BI])]] * 4, abs=1e-5)

    def test_a_deadline_within_what_is_to_be_read(self, both, expected, monkeypatch):
        reading = replace(ALL_MODELS, reading=Reading(3, CHEAP))
        reranker = Reranker(replace(load_bundle(both), fusion=reading))
        order = np.argsort(-joined(expected, CHEAP), kind="stable").tolist()
        monkeypatch.setattr(module, "score_within", lambda score, pairs, *rest: score(pairs[:2]))
        ranked = reranker.rank(QUESTION, PASSAGES, deadline_ms=1)
        assert {r.index for r in ranked if r.reranked} == set(order[:2])
        assert [r.index for r in ranked if not r.reranked] == order[2:]
