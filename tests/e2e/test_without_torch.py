"""A machine without torch and transformers: a fresh environment ranks with an exported model."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from crosstune.artefacts import Artefact, artefact_bytes, write_artefacts
from crosstune.bundle import BI_ENCODER, ModelBundle, save_bundle
from crosstune.export import to_onnx
from crosstune.files import sha256_of
from crosstune.pair_encoding import PairEncoder
from crosstune.scoring import TorchScorer
from crosstune.types import Calibration, Fusion, Part, ScoreKind

pytestmark = [pytest.mark.slow, pytest.mark.ci]

ROOT = Path(__file__).resolve().parents[2]
PASSAGES = ["reset your password with the link", "a refund is paid to your card", "download the invoice", ""]
SHIPPED = ("crosstune.json", "exports.json", "config.json", "tokenizer.json", "tokenizer_config.json")


@pytest.fixture(scope="module")
def python(tmp_path_factory):
    """Python of an environment with the base package and the extra `onnx`, and nothing of torch."""
    folder = tmp_path_factory.mktemp("environment")
    # A copy, since a build leaves files in the source tree.
    source = folder / "source"
    shutil.copytree(ROOT / "src", source / "src", ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
    for name in ("pyproject.toml", "README.md", "constraints.txt"):
        shutil.copy(ROOT / name, source)
    subprocess.run([sys.executable, "-m", "venv", folder / "venv"], check=True)
    found = folder / "venv" / "bin" / "python"
    subprocess.run(
        [found, "-m", "pip", "install", "--quiet", "-c", "constraints.txt", ".[onnx]"], cwd=source, check=True
    )
    return found


@pytest.fixture
def shipped(load, bert, bare_bert, tmp_path):
    """A folder with the graph, the tokenizer, the manifests and a bi-encoder, and the logits that torch gives."""
    loaded, whole, alone = load(bert), tmp_path / "whole", tmp_path / "alone"
    calibration = Calibration(1.0, 0.0, 0.5, 0, 0, 1)
    fusion = Fusion("bm25", {Part.CROSS_ENCODER: 1.0, Part.BI_ENCODER: 1.0, Part.LEXICAL: 1.0}, "en", calibration)
    bundle = ModelBundle(whole, 64, ScoreKind.LOGIT, "base", "r", "f", "fp32", calibration, fusion)
    save_bundle(bundle, (loaded.model, loaded.tokenizer), bare_bert)
    scorer, encoder = TorchScorer(loaded.model, loaded.tokenizer, 64), PairEncoder.from_folder(whole, 64)
    pairs = [("refund to my card", passage) for passage in PASSAGES if passage]
    (whole / "onnx").mkdir()
    graph = whole / "onnx" / "model.onnx"
    to_onnx(loaded.model, encoder.pad_arrays(scorer.encode(pairs)), graph)
    artefact = Artefact(
        "onnx", "fp32", "as it is", "onnx/model.onnx", artefact_bytes(graph), sha256_of([graph]), True, {}
    )
    write_artefacts(whole, [artefact])
    (alone / "onnx").mkdir(parents=True)
    for name in (*SHIPPED, "onnx/model.onnx"):
        shutil.copy(whole / name, alone / name)
    shutil.copytree(whole / BI_ENCODER, alone / BI_ENCODER)
    return alone, scorer.score_pairs(pairs)


def test_ranks_without_torch(python, shipped, tmp_path):
    folder, expected = shipped
    documents = tmp_path / "passages.txt"
    documents.write_text("\n".join(PASSAGES))
    command = ["rank", "--model", folder, "--query", "refund to my card", "--documents", documents, "--json"]
    environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path)}
    found = subprocess.run(
        [python, "-m", "crosstune", *command], capture_output=True, text=True, env=environment, check=True
    )
    ranked = json.loads(found.stdout)
    # The bi-encoder needs torch: it is missed, and said to be, and the rest ranks on.
    assert ranked["ranked_by"] == ["cross_encoder", "lexical"]
    assert found.stderr.startswith("Ranked without the part bi_encoder:")
    assert "crosstune[train]" in found.stderr
    by_index = {item["index"]: item["logit"] for item in ranked["results"]}
    np.testing.assert_allclose([by_index[i] for i in sorted(by_index)], expected, atol=1e-5)
    for package in ("torch", "transformers"):
        missing = subprocess.run([python, "-c", f"import {package}"], capture_output=True, text=True, check=False)
        assert "ModuleNotFoundError" in missing.stderr
    asked = [python, "-m", "crosstune", *command, "--runtime", "torch"]
    refused = subprocess.run(asked, capture_output=True, text=True, env=environment, check=False)
    assert refused.returncode == 2
    assert "safetensors" in refused.stderr


def test_the_installation_is_small(python):
    packages = next((python.parent.parent / "lib").glob("python*/site-packages"))
    size = sum(path.stat().st_size for path in packages.rglob("*") if path.is_file() and not path.is_symlink()) / 1e6
    print(f"site-packages: {size:.0f} MB")
    assert size < 800  # torch alone is more
