"""Pairs a second in scoring: sentence-transformers in each of its ways, FlashRank's batching, and our runtimes."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.timing import add_agreement, alternate, table
from benchmarks.workload import MAX_LENGTH, MINILM, ROOT, XLMR, mixed_pairs, save_model
from crosstune.artefacts import usable_artefacts
from crosstune.bundle import load_bundle
from crosstune.checkpoints import Checkpoint, CheckpointKind, load_reranker, resolve
from crosstune.export import ParityError, quantize_openvino, to_onnx, to_openvino
from crosstune.pair_encoding import PairEncoder
from crosstune.recipes.export import export_model
from crosstune.recipes.settings import TuneSettings
from crosstune.recipes.tune import tune
from crosstune.scoring import OnnxScorer, OpenVinoScorer, TorchScorer, load_artefact

REFERENCE = "sentence-transformers, defaults (fp32)"
EXAMPLE = ROOT / "examples" / "helpdesk.csv"
CACHE = ROOT / "benchmarks" / ".cache"
# sentence-transformers' ONNX and OpenVINO backends need an older transformers: an environment of their own.
OTHER_PYTHON = CACHE / "st5" / "bin" / "python"
OTHER_PACKAGES = ("torch==2.13.0", "sentence-transformers[openvino,onnx]==5.7.*")
_ROUNDS = {MINILM: 5, XLMR: 1}
_BULK_PAIRS = 5_000
_CALIBRATION_PAIRS = 64

Side = Callable[[list[tuple[str, str]]], Any]


def scoring(size: str, n_pairs: int, one_query: bool) -> dict[str, Any]:
    """All sides over the same pairs, in turn, with how far their logits are from the reference's.

    Many pairs are scored once, without a round to warm up, and by fewer sides: minutes each.
    """
    pairs, bulk = mixed_pairs(n_pairs, one_query=one_query), n_pairs >= _BULK_PAIRS
    with tempfile.TemporaryDirectory() as temporary:
        folder = tuned_folder() if size == MINILM else Path(temporary)
        if size == XLMR:
            save_model(size, folder)
        sides = _library(folder) | ({} if bulk else _other_library(folder, size)) | _ours(folder, size)
        if bulk:
            sides = {name: side for name, side in sides.items() if not re.search("ONNX|onnx|crosstune.*fp32", name)}
        logits: dict[str, Any] = {}
        timed = {name: partial(_timed, name, side, pairs, logits) for name, side in sides.items()}
        n_rounds, n_warmup = (1, 0) if bulk else (_ROUNDS[size], int(size == MINILM))
        rows = table(alternate(timed, n_rounds, n_warmup), n_pairs, REFERENCE)
        for side in sides.values():
            if isinstance(side, OtherLibrary):
                side.close()
    add_agreement(rows, logits, REFERENCE)
    return {"pairs": n_pairs, "one_query": one_query, "rows": rows}


def _timed(name: str, side: Side, pairs: list[tuple[str, str]], logits: dict[str, Any]) -> object:
    """Score, keep the logits, and tell the seconds where the side has measured them itself."""
    logits[name] = np.asarray(side(pairs), np.float64)
    return side.seconds if isinstance(side, OtherLibrary) else None


def tuned_folder() -> Path:
    """Model folder of our example, tuned once and exported through the parity gate; kept in benchmarks/.cache."""
    settings = TuneSettings(budget_s=240)
    # By its base, which a run cannot change.
    run = CACHE / f"helpdesk-{resolve(settings.base).revision[-8:]}"
    tune(EXAMPLE, run, settings)
    model = run / "model"
    there = {artefact.name for artefact in usable_artefacts(model)}
    for target, int8, name in (
        ("onnx", False, "onnx-fp32"),
        ("onnx", True, "onnx-int8"),
        ("openvino", False, "openvino-fp32"),
        ("openvino", True, "openvino-int8"),
    ):
        if name not in there:
            with suppress(ParityError):  # refused, and said; it does not serve, so it is not timed either
                export_model(run, EXAMPLE, target, int8=int8, say=print)
    return model


def _library(folder: Path) -> dict[str, Side]:
    from sentence_transformers import CrossEncoder

    def model(**options: Any) -> Side:
        encoder = CrossEncoder(
            str(folder), max_length=MAX_LENGTH, device="cpu", activation_fn=torch.nn.Identity(), **options
        )
        return lambda pairs: encoder.predict(pairs, show_progress_bar=False)

    return {
        REFERENCE: model(),
        "sentence-transformers, bf16": model(model_kwargs={"dtype": torch.bfloat16}),
    }


class OtherLibrary:
    """sentence-transformers with another backend, in a process of another environment."""

    def __init__(self, folder: Path, backend: str) -> None:
        worker = Path(__file__).with_name("other_library.py")
        self._process = subprocess.Popen(
            [str(OTHER_PYTHON), str(worker), str(folder), backend, str(MAX_LENGTH)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env={**os.environ, "PYTHONPATH": "", "HF_HUB_OFFLINE": "1"},
        )
        self.seconds = 0.0

    def __call__(self, pairs: list[tuple[str, str]]) -> list[float]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(pairs) + "\n")
        self._process.stdin.flush()
        answer = json.loads(self._process.stdout.readline())
        self.seconds = float(answer["seconds"])
        return list(answer["logits"])

    def close(self) -> None:
        """End the process."""
        self._process.kill()


def _other_library(folder: Path, size: str) -> dict[str, Side]:
    if not OTHER_PYTHON.is_file():
        subprocess.run([sys.executable, "-m", "venv", str(CACHE / "st5")], check=True)
        for package in OTHER_PACKAGES:
            subprocess.run([str(OTHER_PYTHON), "-m", "pip", "install", "--quiet", package], check=True)
    backends = ("onnx", "openvino") if size == MINILM else ("openvino",)
    return {f"sentence-transformers 5.7, {backend}": OtherLibrary(folder, backend) for backend in backends}


def _ours(folder: Path, size: str) -> dict[str, Side]:
    checkpoint = Checkpoint(str(folder), folder, "", CheckpointKind.RERANKER)
    model, tokenizer = load_reranker(checkpoint, dropout=0.0)
    torch_sides: dict[str, Side] = {
        f"crosstune torch {precision}": TorchScorer(model, tokenizer, MAX_LENGTH, precision).score_pairs
        for precision in ("fp32", "bf16")
    }
    if size == MINILM:
        bundle = load_bundle(folder)
        exports: dict[str, Side] = {
            f"crosstune {artefact.name}": load_artefact(bundle.path, artefact, MAX_LENGTH).score_pairs
            for artefact in usable_artefacts(folder)
        }
        if "crosstune openvino-int8" not in exports:
            exports["crosstune openvino-int8 (refused here)"] = _refused_int8(folder)
        return {"FlashRank's way (ONNX, one batch)": _one_batch(folder), **torch_sides, **exports}
    encoder = PairEncoder(tokenizer, MAX_LENGTH)
    sample = [encoder.pair(*encoder.tokenize(list(pair))) for pair in mixed_pairs(2)]
    to_onnx(model, encoder.pad_arrays(sample), folder / "model.onnx")
    to_openvino(folder / "model.onnx", folder / "model.xml")
    in_bf16 = OpenVinoScorer(folder / "model.xml", encoder, "bf16")
    return {**torch_sides, "crosstune openvino-bf16": in_bf16.score_pairs}


def _refused_int8(folder: Path) -> Side:
    """The int8 file of a model for which the parity gate refuses it: what it would take, were it to serve."""
    encoder = PairEncoder.from_folder(folder, MAX_LENGTH)
    pairs = [encoder.pair(*encoder.tokenize(list(pair))) for pair in mixed_pairs(_CALIBRATION_PAIRS)]
    path = CACHE / "refused" / "model.xml"
    path.parent.mkdir(exist_ok=True)
    quantize_openvino(folder / "onnx" / "model.onnx", path, [encoder.pad_arrays([pair]) for pair in pairs])
    return OpenVinoScorer(path, encoder, "int8").score_pairs


def _one_batch(folder: Path) -> Side:
    """All candidates in one forward pass in input order, padded to the longest, in ONNX Runtime."""
    scorer = OnnxScorer(folder / "onnx" / "model.onnx", PairEncoder.from_folder(folder, MAX_LENGTH))

    def side(pairs: list[tuple[str, str]]) -> Any:
        return scorer._logits(scorer.encode(pairs))

    return side
