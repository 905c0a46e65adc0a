import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch

from crosstune import bundle as bundle_module
from crosstune.bi_encoder import SentenceTransformerEmbedder
from crosstune.bundle import BI_ENCODER, MANIFEST, ModelBundle, load_bundle, save_bundle
from crosstune.checkpoints import resolve
from crosstune.errors import BundleError
from crosstune.scoring import Reranker, TorchScorer
from crosstune.types import Calibration, Fusion, Part, Reading, ScoreKind

FAMILIES = ("bert", "xlm-roberta", "modernbert")
MAX_LENGTH = 60
LONG = "a refund is paid to your card after thirty days " * 12
WEIGHTS = {Part.CROSS_ENCODER: 0.5, Part.BI_ENCODER: 12.0, Part.LEXICAL: 0.25, Part.FIRST_STAGE: 0.125}
FUSION = Fusion("bm25", WEIGHTS, "de", Calibration(1.5, 0.5, 0.4, 0.7, 0.6, 30))


def manifest(path, **changes):
    plain = ModelBundle(
        path=path,
        max_length=MAX_LENGTH,
        score_kind=ScoreKind.LOGIT,
        base_model="embedded",
        base_revision="sha256:00",
        data_fingerprint="ab" * 32,
        precision="fp32",
        calibration=Calibration(2.0, -1.0, 0.25, 0.9, 0.8, 40),
        fusion=FUSION,
        settings={"seed": 3, "text": "größer", "nested": {"list": [1, 2]}},
        versions={"torch": "2"},
    )
    return replace(plain, **changes)


@pytest.fixture
def saved(load, bert, tmp_path):
    loaded = load(bert)
    save_bundle(manifest(tmp_path / "run" / "model"), (loaded.model, loaded.tokenizer))
    return tmp_path / "run" / "model"


def rewrite(folder, **changes):
    content = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    (folder / MANIFEST).write_text(json.dumps(content | changes), encoding="utf-8")


def pairs_of(corpus):
    questions, passages = corpus.queries.values(), list(corpus.passages.values())
    pairs = [(query.text, passage.full_text) for query in questions for passage in passages[::3]]
    return [
        *pairs,
        ("refund", LONG),
        ("invoice", LONG),
        ("card", LONG + "again"),
        ("export", LONG + "as a table"),
        ("refund", ""),
        ("", "refund"),
    ]


@pytest.mark.parametrize("family", FAMILIES)
class TestOtherLibraries:
    @pytest.fixture
    def folder(self, load, families, family, tmp_path):
        loaded = load(families[family])
        save_bundle(manifest(tmp_path / "model"), (loaded.model, loaded.tokenizer))
        return tmp_path / "model"

    @pytest.fixture
    def expected(self, load, families, family, corpus):
        loaded = load(families[family])
        scorer = TorchScorer(loaded.model, loaded.tokenizer, MAX_LENGTH)
        scored = scorer.score(pairs_of(corpus))
        assert 0.05 < scored.truncated_share < 1  # cut and whole pairs are both compared
        assert scored.logits.std() > 0.05
        return scored.logits

    def test_sentence_transformers_gives_the_same_logits(self, folder, expected, corpus):
        from sentence_transformers import CrossEncoder

        model = CrossEncoder(str(folder), device="cpu")
        assert isinstance(model.activation_fn, torch.nn.Identity)
        scores = model.predict(pairs_of(corpus), show_progress_bar=False)
        np.testing.assert_allclose(scores, expected, atol=1e-5)

    def test_transformers_gives_the_same_logits(self, folder, expected, corpus):
        from transformers import AutoModelForSequenceClassification, AutoTokenizer

        model = AutoModelForSequenceClassification.from_pretrained(folder).eval()
        tokenizer = AutoTokenizer.from_pretrained(folder)
        queries, passages = zip(*pairs_of(corpus), strict=True)
        inputs = tokenizer(list(queries), list(passages), truncation=True, padding=True, return_tensors="pt")
        with torch.inference_mode():
            logits = model(**inputs).logits
        assert logits.shape == (len(queries), 1)
        np.testing.assert_allclose(logits[:, 0].numpy(), expected, atol=1e-5)

    def test_our_own_reranker_gives_the_same_logits(self, folder, expected, corpus):
        np.testing.assert_allclose(Reranker.load(folder).scorer.score_pairs(pairs_of(corpus)), expected, atol=1e-5)


class TestRoundTrip:
    def test_everything_said_comes_back(self, saved):
        assert load_bundle(saved) == manifest(saved)
        assert load_bundle(str(saved)) == manifest(saved)

    def test_the_order_of_parts_comes_back_too(self, saved):
        assert list(load_bundle(saved).fusion.weights.items()) == list(WEIGHTS.items())

    def test_a_fusion_without_a_scale(self, load, bert, tmp_path):
        loaded, unscaled = load(bert), replace(FUSION, calibration=None)
        save_bundle(manifest(tmp_path / "model", fusion=unscaled), (loaded.model, loaded.tokenizer))
        assert load_bundle(tmp_path / "model").fusion == unscaled

    @pytest.mark.parametrize("weights", [{}, {Part.BI_ENCODER: 9.0, Part.LEXICAL: 0.5}])
    def test_what_the_cross_encoder_reads(self, load, bert, tmp_path, weights):
        loaded, reading = load(bert), replace(FUSION, reading=Reading(20, weights))
        save_bundle(manifest(tmp_path / "model", fusion=reading), (loaded.model, loaded.tokenizer))
        assert load_bundle(tmp_path / "model").fusion == reading

    def test_without_fusion(self, load, bert, tmp_path):
        loaded = load(bert)
        save_bundle(manifest(tmp_path / "model", fusion=None), (loaded.model, loaded.tokenizer))
        assert load_bundle(tmp_path / "model").fusion is None

    def test_the_run_folder_is_taken_too(self, saved):
        assert load_bundle(saved.parent).path == saved

    def test_weights_are_float32_safetensors(self, load, bert, tmp_path):
        from safetensors.torch import load_file

        loaded = load(bert)
        save_bundle(manifest(tmp_path / "model"), (loaded.model.bfloat16(), loaded.tokenizer))
        assert {tensor.dtype for tensor in load_file(tmp_path / "model/model.safetensors").values()} == {torch.float32}
        assert not list((tmp_path / "model").glob("*.bin"))

    def test_saving_prints_nothing(self, load, bert, tmp_path, capfd, recwarn):
        loaded = load(bert)
        save_bundle(manifest(tmp_path / "model"), (loaded.model, loaded.tokenizer))
        assert capfd.readouterr() == ("", "")
        assert not recwarn.list


class TestWhatTheFolderHolds:
    def test_the_cross_encoder_alone(self, saved):
        bundle = load_bundle(saved)
        assert (bundle.has_cross_encoder, bundle.bi_encoder) == (True, None)

    def test_both(self, load, bert, bare_bert, corpus, tmp_path):
        loaded, folder = load(bert), tmp_path / "model"
        save_bundle(manifest(folder), (loaded.model, loaded.tokenizer), bare_bert)
        bundle = load_bundle(folder)
        assert (bundle.has_cross_encoder, bundle.bi_encoder) == (True, folder / BI_ENCODER)
        assert vectors(bundle.bi_encoder).tolist() == vectors(bare_bert).tolist()
        # sentence-transformers still finds the cross-encoder, and not the other model, in the folder itself.
        from sentence_transformers import CrossEncoder

        found = CrossEncoder(str(folder), device="cpu").predict(pairs_of(corpus), show_progress_bar=False)
        expected = TorchScorer(*vars(load(bert)).values(), MAX_LENGTH).score_pairs(pairs_of(corpus))
        np.testing.assert_allclose(found, expected, atol=1e-5)

    def test_the_bi_encoder_alone(self, bare_bert, tmp_path):
        save_bundle(manifest(tmp_path / "model"), None, bare_bert)
        bundle = load_bundle(tmp_path / "model")
        assert bundle == manifest(tmp_path / "model")
        assert (bundle.has_cross_encoder, bundle.bi_encoder) == (False, tmp_path / "model" / BI_ENCODER)

    def test_the_source_of_the_bi_encoder_is_left_as_it_was(self, bare_bert, tmp_path):
        before = {path.name: path.read_bytes() for path in bare_bert.iterdir()}
        save_bundle(manifest(tmp_path / "model"), None, bare_bert)
        assert {path.name: path.read_bytes() for path in bare_bert.iterdir()} == before

    def test_a_bi_encoder_of_the_old_model_is_gone_with_it(self, saved, load, bert, bare_bert):
        save_bundle(manifest(saved), None, bare_bert)
        loaded = load(bert)
        save_bundle(manifest(saved), (loaded.model, loaded.tokenizer))
        assert not (saved / BI_ENCODER).exists()


def vectors(folder):
    return SentenceTransformerEmbedder(resolve(str(folder)), precision="fp32", device="cpu").embed_passages(["refund"])


class TestReplacing:
    def test_an_older_model_is_replaced_whole(self, saved, load, families):
        (saved / "stale.txt").write_text("of the old model")
        other = load(families["modernbert"])
        save_bundle(manifest(saved, max_length=22), (other.model, other.tokenizer))
        assert load_bundle(saved).max_length == 22
        assert not (saved / "stale.txt").exists()
        assert [path.name for path in saved.parent.iterdir()] == ["model"]

    def test_a_failure_while_writing_keeps_the_old_model(self, saved, load, bert, monkeypatch):
        loaded = load(bert)

        def fail(folder):
            raise OSError("disk full")

        monkeypatch.setattr(loaded.tokenizer, "save_pretrained", fail)
        with pytest.raises(OSError, match="disk full"):
            save_bundle(manifest(saved, max_length=22), (loaded.model, loaded.tokenizer))
        assert load_bundle(saved) == manifest(saved)

    def test_a_kill_between_the_renames_leaves_both_models_whole(self, saved, load, bert, monkeypatch):
        loaded = load(bert)
        real, done = bundle_module.os.replace, []

        def killed_at_the_second(source, target):
            if done:
                raise KeyboardInterrupt
            done.append(target)
            real(source, target)

        monkeypatch.setattr(bundle_module.os, "replace", killed_at_the_second)
        with pytest.raises(KeyboardInterrupt):
            save_bundle(manifest(saved, max_length=22), (loaded.model, loaded.tokenizer))
        assert load_bundle(saved.with_name("model.old")).max_length == MAX_LENGTH
        assert load_bundle(saved.with_name("model.tmp")).max_length == 22
        monkeypatch.undo()
        save_bundle(manifest(saved, max_length=22), (loaded.model, loaded.tokenizer))
        assert load_bundle(saved).max_length == 22
        assert [path.name for path in saved.parent.iterdir()] == ["model"]


CALIBRATION = {"temperature": 1.0, "bias": 0.0, "threshold": 0.5, "precision": 0.0, "recall": 0.0, "n": 0}
OF_FUSION = {
    "first_stage": "bm25",
    "weights": {"lexical": 1.0},
    "language": "en",
    "calibration": CALIBRATION,
    "reading": None,
}


class TestDamage:
    def test_no_folder(self, tmp_path):
        with pytest.raises(BundleError, match="not a crosstune model folder"):
            load_bundle(tmp_path / "nowhere")

    def test_a_file_instead_of_a_folder(self, saved):
        with pytest.raises(BundleError, match="not a crosstune model folder"):
            load_bundle(saved / "config.json")

    def test_no_manifest(self, bert):
        with pytest.raises(BundleError, match=r"crosstune\.json is not there"):
            load_bundle(bert)

    @pytest.mark.parametrize("content", [b"", b"{", b'{"format": 3', b"\xff\xfe"])
    def test_not_json(self, saved, content):
        (saved / MANIFEST).write_bytes(content)
        with pytest.raises(BundleError, match="not valid JSON"):
            load_bundle(saved)

    @pytest.mark.parametrize("content", ["[]", "3", "{}", '{"format": 2}', '{"format": "3"}'])
    def test_another_format(self, saved, content):
        (saved / MANIFEST).write_text(content)
        with pytest.raises(BundleError, match="reads format 3"):
            load_bundle(saved)

    @pytest.mark.parametrize(
        "changes",
        [
            {"score_kind": "stars"},
            {"calibration": None},
            {"calibration": {"temperature": 1.0}},
            {"calibration": CALIBRATION | {"temperature": 0.0}},
            {"calibration": CALIBRATION | {"temperature": "2"}},
            {"calibration": CALIBRATION | {"bias": float("nan")}},
            {"calibration": CALIBRATION | {"threshold": 1.5}},
            {"max_length": "20"},
            {"max_length": 0},
            {"not_a_field": 1},
        ],
    )
    def test_a_wrong_field(self, saved, changes):
        rewrite(saved, **changes)
        with pytest.raises(BundleError, match="missing or wrong"):
            load_bundle(saved)

    @pytest.mark.parametrize(
        "changes",
        [
            *({"weights": {"lexical": weight}} for weight in (0, -1, float("nan"), float("inf"), "1", None)),
            {"weights": {"stars": 1.0}},
            {"weights": None},
            {"weights": [1.0]},
            {"weights": {}},
            {"not_a_field": 1},
            {"calibration": CALIBRATION | {"temperature": -1.0}},
            {"reading": {"n": 20}},
            {"reading": 20},
            {"reading": {"n": 0, "weights": {}}},
            {"reading": {"n": "20", "weights": {}}},
            {"reading": {"n": 20, "weights": {"lexical": -1.0}}},
            {"reading": {"n": 20, "weights": {"cross_encoder": 1.0}}},
            {"reading": {"n": 20, "weights": {}, "not_a_field": 1}},
        ],
    )
    def test_a_wrong_field_of_the_fusion(self, saved, changes):
        rewrite(saved, fusion=OF_FUSION)
        assert load_bundle(saved).fusion.weights == {Part.LEXICAL: 1.0}
        rewrite(saved, fusion=OF_FUSION | changes)
        with pytest.raises(BundleError, match="missing or wrong"):
            load_bundle(saved)

    @pytest.mark.parametrize("field", OF_FUSION)
    def test_a_missing_field_of_the_fusion(self, saved, field):
        rewrite(saved, fusion={name: value for name, value in OF_FUSION.items() if name != field})
        with pytest.raises(BundleError, match=field):
            load_bundle(saved)

    @pytest.mark.parametrize("field", ["max_length", "calibration", "fusion", "base_model"])
    def test_a_missing_field(self, saved, field):
        content = json.loads((saved / MANIFEST).read_text(encoding="utf-8"))
        del content[field]
        (saved / MANIFEST).write_text(json.dumps(content))
        with pytest.raises(BundleError, match=field):
            load_bundle(saved)

    def test_missing_weights(self, saved):
        (saved / "model.safetensors").unlink()
        with pytest.raises(BundleError, match="weights"):
            load_bundle(saved)

    def test_missing_weights_of_the_only_bi_encoder(self, bare_bert, tmp_path):
        save_bundle(manifest(tmp_path / "model"), None, bare_bert)
        shutil.rmtree(tmp_path / "model" / BI_ENCODER)
        with pytest.raises(BundleError, match="weights"):
            load_bundle(tmp_path / "model")
