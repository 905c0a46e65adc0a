import json
import shutil
from dataclasses import replace
from itertools import chain

import numpy as np
import pytest

from crosstune.artefacts import Artefact, artefact_bytes, read_artefacts, write_artefacts
from crosstune.bundle import ModelBundle, load_bundle, save_bundle
from crosstune.errors import BundleError, CheckpointError, ConfigError, MissingExtraError
from crosstune.export import quantize_onnx, to_onnx
from crosstune.pair_encoding import PairEncoder
from crosstune.scoring import Reranker, TorchScorer, open_scorer, runtimes
from crosstune.types import Calibration, ScoreKind

FAMILIES = ("bert", "xlm-roberta", "modernbert", "distilbert")
PAIRS = [("reset my password", "reset your password"), ("refund", "a refund is paid to your card"), ("", "x")]


@pytest.fixture(scope="module")
def exported(load, bert, tmp_path_factory):
    """A model folder with an ONNX graph in float32 and one in 8 bits, as if both had passed."""
    folder, loaded = tmp_path_factory.mktemp("run") / "model", load(bert)
    calibration = Calibration(1.0, 0.0, 0.5, 0, 0, 1)
    save_bundle(
        ModelBundle(folder, 64, ScoreKind.LOGIT, "base", "r", "f", "fp32", calibration, None),
        (loaded.model, loaded.tokenizer),
    )
    encoder = PairEncoder(loaded.tokenizer, 64)
    pairs = [encoder.pair(*encoder.tokenize(pair)) for pair in PAIRS]
    (folder / "onnx").mkdir()
    to_onnx(loaded.model, encoder.pad_arrays(pairs), folder / "onnx/model.onnx")
    quantize_onnx(folder / "onnx/model.onnx", folder / "onnx/small.onnx")
    write_artefacts(folder, [listed(folder, "fp32", "onnx/model.onnx"), listed(folder, "int8", "onnx/small.onnx")])
    return folder


def listed(folder, precision, file, passed=True):
    return Artefact("onnx", precision, "as it is", file, artefact_bytes(folder / file), file, passed, {})


@pytest.fixture
def folder(exported, tmp_path):
    shutil.copytree(exported, tmp_path / "model")
    return tmp_path / "model"


@pytest.fixture
def speeds(monkeypatch):
    """Tokens a second by "runtime-precision", and the order in which they were asked for."""
    told, asked = {"torch-fp32": 1.0, "onnx-fp32": 2.0, "onnx-int8": 3.0}, []

    def measured(scorer, clock):
        asked.append(f"{scorer.runtime}-{scorer.precision}")
        return told[asked[-1]]

    monkeypatch.setattr(runtimes, "tokens_per_s", measured)
    return told, asked


def named(scorer):
    return f"{scorer.runtime}-{scorer.precision}"


def test_without_exports_auto_is_torch_in_float32(folder):
    (folder / "exports.json").unlink()
    assert named(open_scorer(load_bundle(folder))) == "torch-fp32"
    assert not (folder / runtimes.REMEMBERED).exists()


@pytest.mark.parametrize(("runtime", "precision", "expected"), [
    ("torch", None, "torch-fp32"),
    ("torch", "bf16", "torch-bf16"),
    ("auto", "fp32", "torch-fp32"),
    ("auto", "bf16", "torch-bf16"),
    ("auto", "int8", "onnx-int8"),
    ("onnx", "fp32", "onnx-fp32"),
    ("onnx", "int8", "onnx-int8"),
])  # fmt: skip
def test_what_is_named_is_taken_without_measuring(folder, speeds, runtime, precision, expected):
    assert named(Reranker.load(folder, runtime, precision).scorer) == expected
    assert speeds[1] == []


def test_auto_takes_the_fastest_and_remembers_it(folder, speeds):
    told, asked = speeds
    assert named(open_scorer(load_bundle(folder))) == "onnx-int8"
    assert sorted(asked) == ["onnx-fp32", "onnx-int8", "torch-fp32"]
    told["torch-fp32"] = 9.0
    assert named(open_scorer(load_bundle(folder))) == "onnx-int8"
    assert len(asked) == 3
    ((key, kept),) = json.loads((folder / runtimes.REMEMBERED).read_text()).items()
    assert kept == {"chosen": "onnx-int8", "tokens_per_s": {"onnx-fp32": 2.0, "onnx-int8": 3.0, "torch-fp32": 1.0}}
    assert "processors" in key
    assert "onnxruntime" in key


def test_other_files_are_measured_anew(folder, speeds):
    open_scorer(load_bundle(folder))
    speeds[0]["torch-fp32"] = 9.0
    write_artefacts(folder, [replace(artefact, sha256="other") for artefact in read_artefacts(folder)])
    assert named(open_scorer(load_bundle(folder))) == "torch-fp32"


def test_what_did_not_pass_never_serves(folder, speeds):
    write_artefacts(folder, [listed(folder, "fp32", "onnx/model.onnx"), listed(folder, "int8", "gone.onnx", False)])
    assert named(open_scorer(load_bundle(folder))) == "onnx-fp32"
    with pytest.raises(ConfigError, match=r"there are: onnx-fp32.*export --model .* --to onnx --int8"):
        open_scorer(load_bundle(folder), "onnx", "int8")


def test_a_read_only_folder_is_measured_every_time(folder, speeds, monkeypatch):
    def refuse(*args):
        raise PermissionError("read-only")

    monkeypatch.setattr(runtimes.os, "replace", refuse)
    for _ in range(2):
        assert named(open_scorer(load_bundle(folder))) == "onnx-int8"
    assert len(speeds[1]) == 6


def test_a_damaged_memory_is_measured_anew(folder, speeds):
    (folder / runtimes.REMEMBERED).write_text("{")
    assert named(open_scorer(load_bundle(folder))) == "onnx-int8"
    assert json.loads((folder / runtimes.REMEMBERED).read_text())


def test_a_folder_of_exports_alone(folder, speeds):
    (folder / "model.safetensors").unlink()
    assert named(open_scorer(load_bundle(folder))) == "onnx-int8"
    assert "torch-fp32" not in speeds[1]
    with pytest.raises(BundleError, match="safetensors"):
        open_scorer(load_bundle(folder), "torch")
    shutil.rmtree(folder / "onnx")
    with pytest.raises(BundleError, match="not the file that was judged"):
        load_bundle(folder)


def test_packages_that_are_not_installed(folder, speeds, monkeypatch):
    monkeypatch.setattr(runtimes, "_installed", lambda runtime: runtime == "torch")
    assert named(open_scorer(load_bundle(folder))) == "torch-fp32"
    with pytest.raises(MissingExtraError, match=r"crosstune\[onnx\]"):
        open_scorer(load_bundle(folder), "onnx")


def test_unknown_names_are_refused(folder):
    with pytest.raises(ConfigError, match=r"auto, torch, onnx, openvino.*tensorrt"):
        open_scorer(load_bundle(folder), "tensorrt")
    with pytest.raises(ConfigError, match="fp16"):
        open_scorer(load_bundle(folder), precision="fp16")
    with pytest.raises(ConfigError, match="openvino"):
        open_scorer(load_bundle(folder), "openvino")


def test_a_damaged_graph_is_named(folder):
    path = folder / "onnx/model.onnx"
    path.write_bytes(bytes(path.stat().st_size))
    with pytest.raises(BundleError, match=r"model\.onnx cannot be loaded.*export it again"):
        open_scorer(load_bundle(folder), "onnx", "fp32")


def test_a_damaged_list_is_named(folder):
    (folder / "exports.json").write_text('{"format": 7, "artefacts": []}')
    with pytest.raises(BundleError, match=r"exports\.json.*format 7"):
        open_scorer(load_bundle(folder))


def test_speed_by_a_clock(load, bert):
    loaded = load(bert)
    scorer = TorchScorer(loaded.model, loaded.tokenizer, 64)
    n_tokens = sum(len(pair.ids) for pair in runtimes.synthetic_pairs(scorer.encoder))
    # Begins at 0; goes of 0.4, 0.2 and 0.5 seconds: the best counts.
    ticks = iter([0.0, 0.0, 0.4, 0.4, 0.6, 0.6, 1.1])
    assert runtimes.tokens_per_s(scorer, lambda: next(ticks)) == pytest.approx(n_tokens / 0.2)
    # One go of two seconds is enough.
    ticks = iter([0.0, 0.0, 2.0])
    assert runtimes.tokens_per_s(scorer, lambda: next(ticks)) == pytest.approx(n_tokens / 2)


def test_synthetic_pairs_are_short_to_as_long_as_may_be(load, bert):
    encoder = PairEncoder(load(bert).tokenizer, 100)
    pairs = runtimes.synthetic_pairs(encoder)
    lengths = [len(pair.ids) for pair in pairs]
    assert (len(pairs), lengths[0], lengths[-1]) == (16, 30, 100)
    assert max(chain.from_iterable(pair.ids.tolist() for pair in pairs)) < len(encoder.vocabulary())


@pytest.mark.parametrize("family", FAMILIES)
def test_the_tokenizers_files_read_as_transformers_reads_them(load, families, family):
    own = PairEncoder(load(families[family]).tokenizer, 40)
    alone = PairEncoder.from_folder(families[family], 40)
    texts = ["reset my password", "", "zebra 漢字 ☃", "a refund is paid to your card after thirty days " * 12]
    for first in texts:
        for second in texts:
            pairs = [[encoder.pair(*encoder.tokenize([first, second]))] for encoder in (own, alone)]
            ours, theirs = own.pad_arrays(pairs[0] * 2), alone.pad_arrays(pairs[1] * 2)
            assert ours.keys() == theirs.keys()
            for name, array in ours.items():
                np.testing.assert_array_equal(array, theirs[name])
    assert (
        alone.pad_arrays([*own_pairs(own), *own_pairs(own, "refund")])["input_ids"][-1, -1]
        == own.tokenizer.pad_token_id
    )


def own_pairs(encoder, passage="a refund is paid to your card"):
    return [encoder.pair(*encoder.tokenize(["refund", passage]))]


def test_missing_tokenizer_files_are_named(folder):
    (folder / "tokenizer_config.json").unlink()
    with pytest.raises(CheckpointError, match=r"tokenizer_config\.json"):
        PairEncoder.from_folder(folder, 40)
    (folder / "tokenizer.json").write_text("{}")
    with pytest.raises(CheckpointError, match=r"tokenizer\.json"):
        PairEncoder.from_folder(folder, 40)
