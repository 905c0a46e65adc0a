"""The export of a tiny model: what is kept, what is refused, what is written."""

import csv
import json
import random
from dataclasses import replace

import numpy as np
import pytest

from crosstune.bundle import ModelBundle, load_bundle, save_bundle
from crosstune.cli.main import main
from crosstune.data import load as load_data
from crosstune.data import split
from crosstune.errors import BundleError, ConfigError, DataError
from crosstune.export import ParityError
from crosstune.recipes import export as recipe
from crosstune.recipes.export import Way, export_model
from crosstune.scoring import Reranker, load_artefact
from crosstune.types import Calibration, ScoreKind

WORDS = [
    *("reset", "password", "link", "mail", "invoice", "month", "billing", "page", "refund", "card", "thirty", "days"),
    *("export", "report", "table", "menu", "top", "plan", "basic", "team", "phone", "guests", "download", "paid"),
    *("lost", "where", "free", "order", "change"),
]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """80 questions whose answer repeats three of their words."""
    path, choose = tmp_path_factory.mktemp("data") / "qa.csv", random.Random(3)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["Question", "Answer"])
        for _ in range(80):
            question = choose.sample(WORDS, 5)
            answer = question[:3] + choose.sample([word for word in WORDS if word not in question], 6)
            writer.writerow([" ".join(question) + "?", " ".join(answer) + "."])
    return path


@pytest.fixture
def model(load, bert, tmp_path, data):
    loaded = load(bert)
    bundle = ModelBundle(
        tmp_path / "run" / "model",
        64,
        ScoreKind.LOGIT,
        "base",
        "r",
        load_data(data).collection.fingerprint,
        "fp32",
        Calibration(1.0, 0.0, 0.5, 0, 0, 1),
        None,
    )
    save_bundle(bundle, (loaded.model, loaded.tokenizer))
    return bundle.path


def written(model):
    return json.loads((model / "exports.json").read_text(encoding="utf-8"))["artefacts"]


def leftovers(model):
    return [path.name for path in model.iterdir() if path.name.startswith(".export")]


def test_onnx_in_float32(model, data):
    (kept,) = export_model(model, data, "onnx")
    assert (kept.name, kept.file, kept.passed) == ("onnx-fp32", "onnx/model.onnx", True)
    assert kept.parity["rank_correlation"] > 0.9999
    assert kept.parity["max_abs_diff"] < 1e-4
    assert kept.parity["n_queries"] == len(split(load_data(data).collection).dev)
    assert kept.bytes == (model / kept.file).stat().st_size
    assert {"torch", "onnxruntime", "crosstune"} <= kept.versions.keys()
    assert leftovers(model) == []
    pairs = [("refund", "a refund is paid"), ("invoice", "reset your password")]
    torch, onnx = (Reranker.load(model, name).scorer.score_pairs(pairs) for name in ("torch", "onnx"))
    np.testing.assert_allclose(torch, onnx, atol=1e-5)


def test_one_openvino_file_serves_in_one_or_two_precisions(model, data, monkeypatch):
    for has_bf16, names in ((False, ["openvino-fp32"]), (True, ["openvino-fp32", "openvino-bf16"])):
        monkeypatch.setattr(recipe, "computes_in_bf16", lambda has_bf16=has_bf16: has_bf16)
        kept = export_model(model, data, "openvino")
        assert [artefact.name for artefact in kept] == names[: len(kept)]
        assert {artefact.file for artefact in kept} == {"openvino/model.xml"}
        assert kept[0].bytes == sum(path.stat().st_size for path in (model / "openvino").iterdir())
        assert [artefact["precision"] for artefact in written(model)] == [a.precision for a in kept]


def shuffled(graph, path, _inputs):
    """The graph with each weight matrix in another order: the same figures in the wrong places."""
    import onnx
    from onnx import numpy_helper

    content, random = onnx.load(graph), np.random.default_rng(0)
    for tensor in content.graph.initializer:
        array = numpy_helper.to_array(tensor)
        if array.dtype == np.float32 and array.ndim == 2:
            tensor.CopyFrom(
                numpy_helper.from_array(random.permutation(array.ravel()).reshape(array.shape), tensor.name)
            )
    onnx.save(content, path)


def test_shuffled_weights_are_refused_with_figures_and_removed(model, data, monkeypatch):
    monkeypatch.setattr(recipe, "WAYS", {("onnx", True): (Way("dynamic", shuffled, ("int8",)),)})
    with pytest.raises(ParityError, match=r"onnx-int8 .* was removed: rank correlation .* is below 0\.98"):
        export_model(model, data, "onnx", int8=True)
    (refused,) = written(model)
    assert not refused["passed"]
    assert refused["parity"]["rank_correlation"] < 0.9
    assert list(model.rglob("*.onnx")) == []
    assert leftovers(model) == []
    assert Reranker.load(model).scorer.runtime == "torch"


def test_the_next_way_is_tried_when_one_is_refused(model, data, monkeypatch):
    good = replace(recipe.WAYS["onnx", False][0], method="good", precisions=("int8",))
    monkeypatch.setattr(recipe, "WAYS", {("onnx", True): (Way("bad", shuffled, ("int8",)), good)})
    heard = []
    (kept,) = export_model(model, data, "onnx", int8=True, say=heard.append)
    assert kept.method == "good"
    assert [(a["method"], a["passed"]) for a in written(model)] == [("bad", False), ("good", True)]
    assert "refused" in heard[0]
    # A refused export leaves the good one where it is.
    monkeypatch.setattr(recipe, "WAYS", {("onnx", True): (Way("bad", shuffled, ("int8",)),)})
    with pytest.raises(ParityError):
        export_model(model, data, "onnx", int8=True)
    assert named(Reranker.load(model, "onnx").scorer) == "onnx-int8"


def named(scorer):
    return f"{scorer.runtime}-{scorer.precision}"


def test_openvino_in_eight_bits_is_calibrated_on_train_questions_alone(model, data, monkeypatch):
    seen = []
    (static, _, weights) = recipe.WAYS["openvino", True]

    def build(graph, path, inputs):
        seen.extend(inputs)
        weights.build(graph, path, inputs)

    way = replace(weights, method="static", build=build, calibrated=True)
    monkeypatch.setattr(recipe, "WAYS", {("openvino", True): (way, static)})
    # Random weights rank at random: here the way through counts, not the figures.
    for name, value in (("MIN_RANK_CORRELATION", 0.5), ("MAX_MEAN_FALL", 1.0), ("MAX_LOW_FALL", 1.0)):
        monkeypatch.setattr(f"crosstune.export.parity.{name}", value)
    (kept,) = export_model(model, data, "openvino", int8=True)
    splits = split(load_data(data).collection)
    assert kept.n_calibration == len(seen) == len(splits.train)
    assert all(array["input_ids"].shape[0] == 1 for array in seen)
    assert kept.hints == {"DYNAMIC_QUANTIZATION_GROUP_SIZE": "128"}
    assert named(Reranker.load(model, precision="int8").scorer) == "openvino-int8"


class TestSplits:
    def write(self, model, **changes):
        splits = {"seed": 5, "train": ["q1", "q2"], "dev": ["q3"], "test": [], "groups": {}}
        (model.parent / "splits.json").write_text(json.dumps(splits | changes))

    def test_those_of_the_run_are_used(self, model, data):
        collection = load_data(data).collection
        ids = list(collection.queries)
        self.write(model, train=ids[:40], dev=ids[40:55], test=ids[55:], groups={q: q for q in ids})
        (kept,) = export_model(model, data, "onnx")
        assert kept.parity["n_queries"] == 15

    def test_other_data_than_the_runs_is_refused(self, model, data, tmp_path):
        self.write(model)
        other = tmp_path / "other.csv"
        other.write_text(data.read_text().replace("refund", "voucher"))
        with pytest.raises(ConfigError, match=r"not the data that .* was tuned on"):
            export_model(model, other, "onnx")

    def test_without_a_dev_question_nothing_can_be_judged(self, model, data):
        ids = list(load_data(data).collection.queries)
        self.write(model, train=ids, dev=[], groups={q: q for q in ids})
        with pytest.raises(DataError, match="no dev question"):
            export_model(model, data, "onnx")

    def test_a_damaged_file_is_named(self, model, data):
        (model.parent / "splits.json").write_text("{}")
        with pytest.raises(ConfigError, match=r"splits\.json"):
            export_model(model, data, "onnx")


def test_what_cannot_be_exported_is_named(model, data):
    with pytest.raises(ConfigError, match="onnx or openvino"):
        export_model(model, data, "tensorrt")
    export_model(model, data, "onnx")
    (model / "model.safetensors").unlink()
    assert load_bundle(model)
    with pytest.raises(BundleError, match="exports alone"):
        export_model(model, data, "onnx")


class TestCommandLine:
    def run(self, monkeypatch, *arguments):
        monkeypatch.setattr("sys.argv", ["crosstune", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
        return ended.value.code or 0

    def test_json_on_stdout_and_nothing_else(self, model, data, monkeypatch, capsys):
        code = self.run(monkeypatch, "export", "--model", model, "--to", "onnx", "--data", data, "--json", "-q")
        out, err = capsys.readouterr()
        assert code == 0
        assert [artefact["file"] for artefact in json.loads(out)["artefacts"]] == ["onnx/model.onnx"]
        assert err == ""

    def test_a_refused_export_ends_with_2_and_figures(self, model, data, monkeypatch, capsys):
        monkeypatch.setattr(recipe, "WAYS", {("onnx", True): (Way("dynamic", shuffled, ("int8",)),)})
        code = self.run(monkeypatch, "export", "--model", model, "--to", "onnx", "--int8", "--data", data, "-q")
        assert code == 2
        assert "rank correlation" in capsys.readouterr().err

    def test_rank_by_a_named_runtime(self, model, data, tmp_path, monkeypatch, capsys):
        export_model(model, data, "onnx")
        passages = tmp_path / "passages.txt"
        passages.write_text("reset your password\na refund is paid\n")
        found, used = {}, []

        def load(folder, artefact, max_length):
            used.append(artefact.name)
            return load_artefact(folder, artefact, max_length)

        monkeypatch.setattr("crosstune.scoring.runtimes.load_artefact", load)
        for runtime in ("torch", "onnx"):
            code = self.run(
                monkeypatch, "rank", "--model", model, "--query", "refund", "--documents", passages, "--json",
                "--runtime", runtime,
            )  # fmt: skip
            assert code == 0
            found[runtime] = [item["logit"] for item in json.loads(capsys.readouterr().out)["results"]]
        assert found["onnx"] == pytest.approx(found["torch"], abs=1e-5)
        assert used == ["onnx-fp32"]
