"""Which runtime scores: what the caller names, or the fastest of those that rank alike, by a short measurement."""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Callable, Sequence
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from crosstune.artefacts import Artefact, usable_artefacts
from crosstune.bundle import ModelBundle
from crosstune.checkpoints import Checkpoint, CheckpointKind, load_reranker
from crosstune.errors import BundleError, ConfigError, MissingExtraError
from crosstune.pair_encoding import EncodedPair, PairEncoder
from crosstune.scoring.base import BatchScorer, n_processors, processor_name
from crosstune.scoring.onnx_scorer import OnnxScorer
from crosstune.scoring.openvino_scorer import OpenVinoScorer
from crosstune.scoring.torch_scorer import TorchScorer, best_device

RUNTIMES = ("auto", "torch", "onnx", "openvino")
PRECISIONS = ("fp32", "bf16", "int8")
REMEMBERED = "runtime.json"

_PACKAGES = {"torch": ("torch", "transformers"), "onnx": ("onnxruntime",), "openvino": ("openvino",)}
_N_SYNTHETIC = 16
_SHORTEST = 30
# A measurement is repeated, since the first is also a warm-up, but not for longer than this.
_ENOUGH_S = 1.0

Clock = Callable[[], float]


def open_scorer(
    bundle: ModelBundle, runtime: str = "auto", precision: str | None = None, clock: Clock = time.perf_counter
) -> BatchScorer:
    """A scorer of a saved model.

    Args:
        bundle: The model.
        runtime: "torch", "onnx" or "openvino". "auto" is torch in float32 when nothing was exported; with exports, the
            fastest of torch in float32 and the exports that passed, as far as their packages are installed. The
            choice is kept in runtime.json beside the model, for this processor and these versions.
        precision: "fp32" or "bf16", which with "auto" mean torch; "int8", which with "auto" means an int8 export; None
            for any.
        clock: Seconds.

    Raises:
        BundleError: The export is damaged.
        ConfigError: No such runtime or precision, or the folder holds no such export.
        MissingExtraError: A package is not installed.
    """
    require_known(runtime, precision)
    artefacts = usable_artefacts(bundle.path)
    to_torch = precision in ("fp32", "bf16") or (precision is None and not artefacts)
    if runtime == "torch" or (runtime == "auto" and to_torch):
        return load_torch(bundle, precision or "fp32")
    wanted = [a for a in artefacts if runtime in ("auto", a.runtime) and precision in (None, a.precision)]
    if not wanted:
        raise _not_exported(bundle, runtime, precision, artefacts)
    installed = [artefact for artefact in wanted if _installed(artefact.runtime)]
    choices: list[Artefact | None] = [*installed]
    if runtime == "auto" and precision is None and _installed("torch") and any(bundle.path.glob("*.safetensors")):
        choices.append(None)  # torch
    if not choices:
        raise MissingExtraError(wanted[0].runtime, f"scoring with {bundle.path / wanted[0].file}")
    return _fastest(bundle, choices, clock)


def require_known(runtime: str, precision: str | None) -> None:
    """Refuse names of runtimes and precisions that there are not.

    Raises:
        ConfigError: No such runtime or precision.
    """
    if runtime not in RUNTIMES:
        raise ConfigError(f"runtime must be one of {', '.join(RUNTIMES)}, found {runtime!r}")
    if precision is not None and precision not in PRECISIONS:
        raise ConfigError(f"precision must be one of {', '.join(PRECISIONS)}, found {precision!r}")


def load_torch(bundle: ModelBundle, precision: str = "fp32") -> TorchScorer:
    """The saved model in torch.

    Raises:
        BundleError: The folder holds exports alone.
        ConfigError: Torch scores in no such precision.
    """
    if not any(bundle.path.glob("*.safetensors")):
        raise BundleError(
            f"{bundle.path}: scoring with torch needs the model's weights (.safetensors), which are not there; copy "
            "them back, or leave runtime and precision to crosstune, which then uses the exports"
        )
    checkpoint = Checkpoint(str(bundle.path), bundle.path, "", CheckpointKind.RERANKER)
    model, tokenizer = load_reranker(checkpoint, dropout=0.0)
    return TorchScorer(model.to(best_device()), tokenizer, bundle.max_length, precision)


def load_artefact(folder: Path, artefact: Artefact, max_length: int) -> BatchScorer:
    """An export as a scorer.

    Args:
        folder: What `artefact.file` is in, with the tokenizer's files.
        artefact: From `exports.json`.
        max_length: Most tokens of a pair.
    """
    encoder = PairEncoder.from_folder(folder, max_length)
    if artefact.runtime == "onnx":
        return OnnxScorer(folder / artefact.file, encoder, artefact.precision)
    return OpenVinoScorer(folder / artefact.file, encoder, artefact.precision, artefact.hints)


def _not_exported(
    bundle: ModelBundle, runtime: str, precision: str | None, artefacts: Sequence[Artefact]
) -> ConfigError:
    target = "onnx" if runtime == "auto" else runtime
    int8 = " --int8" if precision == "int8" else ""
    there = ", ".join(artefact.name for artefact in artefacts) or "none"
    return ConfigError(
        f"{bundle.path}: no export for runtime {runtime!r} in precision {precision or 'any'!r} (there are: {there}); "
        f"make one: crosstune export --model {bundle.path} --to {target}{int8} --data FILE"
    )


def _installed(runtime: str) -> bool:
    return all(find_spec(package) is not None for package in _PACKAGES[runtime])


def _fastest(bundle: ModelBundle, choices: Sequence[Artefact | None], clock: Clock) -> BatchScorer:
    def load(choice: Artefact | None) -> BatchScorer:
        return load_torch(bundle) if choice is None else load_artefact(bundle.path, choice, bundle.max_length)

    if len(choices) == 1:
        return load(choices[0])
    names = ["torch-fp32" if choice is None else choice.name for choice in choices]
    key, path = _key(choices), bundle.path / REMEMBERED
    known = _recall(path)
    chosen = known.get(key, {}).get("chosen")
    if chosen in names:
        return load(choices[names.index(chosen)])
    speeds: dict[str, float] = {}
    for name, choice in zip(names, choices, strict=True):
        scorer = load(choice)
        speeds[name] = tokens_per_s(scorer, clock)
        if speeds[name] == max(speeds.values()):  # of a large model no more than two are in memory at once
            chosen, best = name, scorer
    _remember(path, known | {key: {"chosen": chosen, "tokens_per_s": {n: round(s, 1) for n, s in speeds.items()}}})
    return best


def tokens_per_s(scorer: BatchScorer, clock: Clock = time.perf_counter) -> float:
    """Tokens a second of a scorer, padding not counted: the best of up to three goes over synthetic pairs."""
    pairs = synthetic_pairs(scorer.encoder)
    seconds, begin = math.inf, clock()
    for _ in range(3):
        start = clock()
        scorer.score_encoded(pairs)
        end = clock()
        seconds = min(seconds, end - start)
        if end - begin > _ENOUGH_S:
            break
    return sum(len(pair.ids) for pair in pairs) / seconds


def synthetic_pairs(encoder: PairEncoder) -> list[EncodedPair]:
    """Pairs of random tokens, 30 of them up to the most that a pair may have."""
    random = np.random.default_rng(0)
    shortest = min(_SHORTEST, encoder.max_length)
    known, pairs = len(encoder.vocabulary()), []
    for length in np.linspace(shortest, encoder.max_length, _N_SYNTHETIC).astype(int):
        n_text = int(length) - encoder.n_special
        ids = random.integers(0, known, n_text).astype(np.int32)
        n_query = min(12, n_text // 2)
        pairs.append(encoder.pair(ids[:n_query], ids[n_query:]))
    return pairs


def _key(choices: Sequence[Artefact | None]) -> str:
    """What a measurement holds for: processor, versions, and the very files."""
    packages = [package for names in _PACKAGES.values() for package in names]
    versions = [f"{package} {found}" for package in ("crosstune", *packages) if (found := _version(package))]
    files = ["torch" if choice is None else f"{choice.name} {choice.sha256[:12]}" for choice in choices]
    return " | ".join([processor_name(), f"{n_processors()} processors", *versions, *files])


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _recall(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):  # Only a measurement is lost: it is made again.
        return {}
    return content if isinstance(content, dict) else {}


def _remember(path: Path, content: dict[str, Any]) -> None:
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        temporary.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
        os.replace(temporary, path)
    except OSError:  # A read-only folder: the next process measures again.
        return
