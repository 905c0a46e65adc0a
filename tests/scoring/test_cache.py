import sqlite3
import subprocess
import sys

import numpy as np
import pytest

from crosstune.bundle import ModelBundle, save_bundle
from crosstune.errors import ConfigError
from crosstune.scoring import Reranker, TorchScorer
from crosstune.scoring.cache import CachedScorer, PairCache, ScoreCache, model_hash
from crosstune.types import Calibration, ScoreKind

PAIRS = [("refund", "paid to your card"), ("refund", "the billing page"), ("invoice", "the billing page")]


@pytest.fixture
def cache(tmp_path):
    return ScoreCache(tmp_path / "scores.db")


@pytest.fixture
def scorer(load, bert):
    return TorchScorer(*vars(load(bert)).values(), 64)


@pytest.fixture
def asked(scorer, monkeypatch):
    """Every pair the model was asked for."""
    seen, own = [], scorer.score_pairs
    monkeypatch.setattr(scorer, "score_pairs", lambda pairs, progress=None: seen.extend(pairs) or own(pairs))
    return seen


class TestScorer:
    def test_only_misses_are_scored(self, scorer, cache, asked):
        cached = CachedScorer(scorer, cache, "m")
        first = cached.score_pairs(PAIRS[:2])
        assert asked == PAIRS[:2]
        again = cached.score_pairs([PAIRS[2], PAIRS[1], PAIRS[0]])
        assert asked == PAIRS
        assert again[[2, 1]].tolist() == first.tolist()  # the very same numbers, in the order asked for

    def test_scores_are_the_scorers_own(self, scorer, cache):
        cached = CachedScorer(scorer, cache, "m")
        expected = scorer.score_pairs(PAIRS)
        for _ in range(2):
            np.testing.assert_allclose(cached.score_pairs(PAIRS), expected, atol=1e-6)
        assert cached.score_kind is ScoreKind.LOGIT

    def test_duplicates_are_scored_once(self, scorer, cache, asked):
        scores = CachedScorer(scorer, cache, "m").score_pairs([PAIRS[0], PAIRS[1], PAIRS[0], PAIRS[0]])
        assert asked == PAIRS[:2]
        assert scores[0] == scores[2] == scores[3] != scores[1]

    def test_nothing_gives_nothing(self, scorer, cache):
        scores = CachedScorer(scorer, cache, "m").score_pairs([])
        assert scores.shape == (0,)
        assert scores.dtype == np.float64

    def test_the_truncated_share_counts_known_pairs_too(self, scorer, cache):
        cached = CachedScorer(scorer, cache, "m")
        pairs = [*PAIRS, ("refund", "a refund is paid to your card " * 40)]
        for _ in range(2):
            assert cached.score(pairs).truncated_share == 0.25
        assert cached.score([]).truncated_share == 0.0

    def test_whatever_decides_a_score_is_part_of_the_key(self, load, bert, cache):
        loaded = load(bert)

        def n_kept(model_hash="m", max_length=64, precision="fp32", runtime="torch"):
            """Scores in the cache after scoring one and the same pair."""
            scorer = TorchScorer(loaded.model, loaded.tokenizer, max_length, precision)
            scorer.runtime = runtime
            CachedScorer(scorer, cache, model_hash).score_pairs(PAIRS[:1])
            return len(cache)

        assert n_kept() == n_kept() == 1
        others = [n_kept(model_hash="n"), n_kept(max_length=63), n_kept(precision="bf16"), n_kept(runtime="onnx")]
        assert others == [2, 3, 4, 5]

    def test_no_text_is_stored(self, scorer, cache):
        CachedScorer(scorer, cache, "m").score_pairs([("a very secret question", "a very secret passage")])
        cache.close()
        for path in cache.path.parent.iterdir():
            assert b"secret" not in path.read_bytes()

    def test_encoded_pairs_go_past_the_cache(self, scorer, cache):
        cached = CachedScorer(scorer, cache, "m")
        assert cached.score_encoded(cached.encode(PAIRS)).tolist() == scorer.score_pairs(PAIRS).tolist()
        assert len(cache) == 0


class TestPairCache:
    def test_only_what_is_missing_is_scored_each_distinct_pair_once_in_input_order(self, cache):
        asked = []

        def lengths(pairs):
            asked.append(list(pairs))
            return np.array([len(query) + len(passage) / 10 for query, passage in pairs])

        scores = PairCache(cache, "m")
        assert scores.score_pairs([("a", "x"), ("bb", "x"), ("a", "x")], lengths).tolist() == [1.1, 2.1, 1.1]
        assert scores.score_pairs([("bb", "x"), ("a", "xyz"), ("a", "x")], lengths).tolist() == [2.1, 1.3, 1.1]
        assert scores.score_pairs([("a", "xyz")], lengths).tolist() == [1.3]
        assert asked == [[("a", "x"), ("bb", "x")], [("a", "xyz")]]
        assert len(cache) == 3

    def test_each_way_of_scoring_has_its_own_part_of_the_file(self, cache):
        # The second identity differs in where its words end only.
        parts = [PairCache(cache, "m", "bi"), PairCache(cache, "mb", "i"), PairCache(cache, "m")]
        for number, part in enumerate(parts):
            part.score_pairs(PAIRS[:1], lambda pairs, number=number: np.array([float(number)]))
        assert [part.score_pairs(PAIRS[:1], refuse).tolist() for part in parts] == [[0.0], [1.0], [2.0]]

    def test_pairs_are_told_apart_by_where_the_question_ends_by_order_and_by_case(self, cache):
        pairs = [("ab", "c"), ("a", "bc"), ("c", "ab"), ("ab", "C"), ("half \ud83d", "")]
        scores = PairCache(cache, "m").score_pairs(pairs, lambda missing: np.arange(float(len(missing))))
        assert scores.tolist() == [0, 1, 2, 3, 4]
        assert PairCache(cache, "m").score_pairs(pairs[::-1], refuse).tolist() == [4, 3, 2, 1, 0]

    def test_nothing_gives_nothing(self, cache):
        scores = PairCache(cache, "m").score_pairs([], refuse)
        assert (scores.shape, scores.dtype) == ((0,), np.float64)


def refuse(pairs):
    raise AssertionError(f"scored again: {pairs}")


class TestCache:
    def test_scores_come_back_to_the_last_digit(self, cache):
        scores = {b"a": 0.1 + 0.2, b"b": -1e-300, b"c": 5e300}
        cache.put(scores)
        assert cache.get([b"c", b"x", b"a", b"b"]) == scores

    def test_the_file_outlives_the_process(self, cache):
        cache.put({b"a": 1.5})
        cache.close()
        assert ScoreCache(cache.path).get([b"a"]) == {b"a": 1.5}

    def test_the_oldest_are_dropped(self, tmp_path):
        cache = ScoreCache(tmp_path / "scores.db", max_entries=3)
        cache.put({b"1": 1.0, b"2": 2.0})
        cache.put({b"1": 1.0, b"3": 3.0})  # known: stays as old as it is
        cache.put({b"4": 4.0})
        assert sorted(cache.get([b"1", b"2", b"3", b"4"])) == [b"2", b"3", b"4"]
        cache.put({bytes([i]): 0.0 for i in range(20)})
        assert len(cache) == 3

    def test_more_keys_than_a_query_may_have(self, cache):
        scores = {i.to_bytes(4, "big"): float(i) for i in range(1234)}
        cache.put(scores)
        assert cache.get(list(scores)) == scores
        assert cache.get([]) == {}

    def test_nan_is_not_kept(self, cache):
        cache.put({b"a": float("nan"), b"b": 1.0})
        assert cache.get([b"a", b"b"]) == {b"b": 1.0}

    def test_several_processes_at_once(self, tmp_path):
        code = (
            "import sys; from crosstune.scoring.cache import ScoreCache; cache = ScoreCache(sys.argv[1])\n"
            "for i in range(40): cache.put({f'{sys.argv[2]} {i}'.encode(): float(i), f'all {i}'.encode(): float(i)})"
        )
        path = tmp_path / "new folder" / "scores.db"
        started = [subprocess.Popen([sys.executable, "-c", code, str(path), str(n)]) for n in range(4)]
        assert [process.wait() for process in started] == [0] * 4
        cache = ScoreCache(path)
        assert len(cache) == 4 * 40 + 40
        assert cache.get([b"3 39", b"all 7"]) == {b"3 39": 39.0, b"all 7": 7.0}

    def test_a_file_of_something_else_is_refused_and_left_alone(self, tmp_path):
        text, other = tmp_path / "notes.txt", tmp_path / "other.db"
        text.write_text("these are my notes, and no database " * 10)
        with sqlite3.connect(other) as connection:
            connection.execute("CREATE TABLE mine (x)")
        connection.close()
        for path in (text, other, tmp_path):
            before = path.read_bytes() if path.is_file() else None
            with pytest.raises(ConfigError, match="cannot be used as a score cache") as caught:
                ScoreCache(path)
            assert str(path) in str(caught.value)
            assert before == (path.read_bytes() if path.is_file() else None)

    def test_a_cache_of_nothing_is_refused(self, tmp_path):
        with pytest.raises(ConfigError, match="at least 1"):
            ScoreCache(tmp_path / "scores.db", max_entries=0)


class TestReranker:
    @pytest.fixture(scope="class")
    def folder(self, load, bert, tmp_path_factory):
        path = tmp_path_factory.mktemp("run") / "model"
        scale = Calibration(1.0, 0.0, 0.5, 0, 0, 1)
        loaded = load(bert)
        bundle = ModelBundle(path, 64, ScoreKind.LOGIT, "base", "r", "f", "fp32", scale, None)
        save_bundle(bundle, (loaded.model, loaded.tokenizer))
        return path

    def test_ranks_alike_and_leaves_the_model_as_it_was(self, folder, tmp_path):
        plain = Reranker.load(folder)
        cached = plain.with_cache(tmp_path / "scores.db")
        passages = ["a refund is paid", "reset your password", "the menu on top"]
        expected = plain.rank("refund", passages)
        for _ in range(2):
            ranked = cached.rank("refund", passages)
            assert [r.index for r in ranked] == [r.index for r in expected]
            assert [r.logit for r in ranked] == pytest.approx([r.logit for r in expected], abs=1e-6)
        assert len(ScoreCache(tmp_path / "scores.db")) == 3
        assert type(plain.scorer) is TorchScorer

    def test_the_hash_is_of_the_weights_and_exports(self, folder, tmp_path):
        import shutil

        copied = tmp_path / "model"
        shutil.copytree(folder, copied)
        assert model_hash(copied) == model_hash(folder)
        (copied / "crosstune.json").write_text("{}")
        assert model_hash(copied) == model_hash(folder)
        seen = {model_hash(folder)}
        for name in ("model.onnx", "openvino.bin", "openvino.xml", "tokenizer.json", "model.safetensors"):
            with (copied / name).open("ab") as file:
                file.write(b"x")
            seen.add(model_hash(copied))
        assert len(seen) == 6
