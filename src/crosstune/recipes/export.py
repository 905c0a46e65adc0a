"""A tuned model to a file for another runtime, kept only when it ranks as the model does."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from crosstune.artefacts import (
    Artefact,
    artefact_bytes,
    read_artefacts,
    weights_file,
    write_artefacts,
)
from crosstune.bundle import ModelBundle, load_bundle
from crosstune.checkpoints import Checkpoint, CheckpointKind, load_reranker
from crosstune.errors import BundleError, ConfigError
from crosstune.export import (
    WEIGHT_COMPRESSION_HINTS,
    Parity,
    ParityError,
    check_graph,
    compress_openvino,
    quantize_onnx,
    quantize_openvino,
    to_onnx,
    to_openvino,
)
from crosstune.files import sha256_of
from crosstune.pair_encoding import EncodedPair, PairEncoder
from crosstune.progress import Progress, silent
from crosstune.recipes.prepare import Say, unheard
from crosstune.recipes.run_folder import package_versions
from crosstune.recipes.yardstick import Yardstick, make_yardstick
from crosstune.scoring import BatchScorer, OnnxScorer, TorchScorer, computes_in_bf16, load_artefact

TARGETS = ("onnx", "openvino")

_PACKAGES = ("crosstune", "torch", "onnx", "onnxruntime", "openvino", "nncf")
# The graph is checked on pairs alone and in company, short and long.
_N_CHECKED = 8

Build = Callable[[Path, Path, Sequence[dict[str, Any]]], None]


@dataclass(frozen=True, slots=True)
class Way:
    """One way to make an artefact.

    Attributes:
        method: Its name in exports.json.
        build: (float32 ONNX file, file to write, calibration inputs of one pair each) -> None.
        precisions: In which the file is judged and may serve; the first must pass.
        calibrated: Whether `build` reads the calibration inputs.
        hints: To load the file with.
    """

    method: str
    build: Build
    precisions: tuple[str, ...]
    calibrated: bool = False
    hints: Mapping[str, str] = field(default_factory=dict)


# In the order they are tried: the first that ranks as the model does is kept.
WAYS: Mapping[tuple[str, bool], tuple[Way, ...]] = {
    ("onnx", False): (Way("as it is", lambda graph, path, _: os.replace(graph, path), ("fp32",)),),
    ("onnx", True): (Way("dynamic", lambda graph, path, _: quantize_onnx(graph, path), ("int8",)),),
    ("openvino", False): (Way("as it is", lambda graph, path, _: to_openvino(graph, path), ("fp32", "bf16")),),
    ("openvino", True): (
        Way("static", quantize_openvino, ("int8",), calibrated=True),
        Way("mixed", partial(quantize_openvino, keep_narrowing=True), ("int8",), calibrated=True),
        Way(
            "weights",
            lambda graph, path, _: compress_openvino(graph, path),
            ("int8",),
            hints=WEIGHT_COMPRESSION_HINTS,
        ),
    ),
}


def export_model(
    model: str | Path,
    data: str | Path,
    to: str,
    *,
    int8: bool = False,
    progress: Progress = silent,
    say: Say = unheard,
) -> tuple[Artefact, ...]:
    """Export a model, and keep the file only if it ranks dev questions as the model does in torch.

    Args:
        model: Model folder, or the run folder it is in; the file goes into `onnx/` or `openvino/` in it, the figures
            into `exports.json`.
        data: The file the model was tuned on. Its dev questions judge, train questions calibrate, test is not used.
        to: "onnx" or "openvino".
        int8: Quantize to 8 bits.
        progress, say: Told of the work.

    Returns:
        What may serve now: one artefact, or for OpenVINO's float32 file one for each precision it is computed in.

    Raises:
        BundleError, DataError, ConfigError: The model, the data or an option cannot be used.
        CheckpointError: This kind of model cannot be exported.
        ParityError: The export does not rank as the model does; its file is removed and its figures are written.
        MissingExtraError: An extra is not installed.
    """
    if to not in TARGETS:
        raise ConfigError(f"models are exported to {' or '.join(TARGETS)}, found {to!r}")
    bundle = load_bundle(model)
    torch_model, reference = _reference(bundle)
    yardstick = make_yardstick(bundle, Path(data), reference, progress)
    with tempfile.TemporaryDirectory(prefix=".export-", dir=bundle.path) as temporary:
        folder = Path(temporary)
        graph = _graph(torch_model, reference, yardstick, folder / "graph.onnx")
        for way in WAYS[to, int8]:
            drafts = _build(way, to, graph, folder, bundle, yardstick, progress)
            if drafts[0].passed:
                return _keep(drafts, folder, bundle.path, say)
            _note_refused(drafts[0], bundle.path, say)
        raise _refused(drafts[0], bundle.path)


def _reference(bundle: ModelBundle) -> tuple[Any, TorchScorer]:
    if not any(bundle.path.glob("*.safetensors")):
        raise BundleError(f"{bundle.path} holds exports alone; export from the folder with the model's .safetensors")
    checkpoint = Checkpoint(str(bundle.path), bundle.path, "", CheckpointKind.RERANKER)
    model, tokenizer = load_reranker(checkpoint, dropout=0.0)
    return model, TorchScorer(model, tokenizer, bundle.max_length)


def _graph(model: Any, reference: TorchScorer, yardstick: Yardstick, path: Path) -> Path:
    """The float32 ONNX graph, compared with torch on pairs of several shapes."""
    longest_first = sorted(yardstick.calibration, key=lambda pair: -len(pair.ids))
    to_onnx(model, reference.encoder.pad_arrays([longest_first[0], longest_first[-1]]), path)
    pairs = [longest_first[i * len(longest_first) // _N_CHECKED] for i in range(_N_CHECKED)]
    scorer = OnnxScorer(path, reference.encoder)
    for batch in (pairs, pairs[:1], pairs[-1:], pairs[2:5]):
        check_graph(reference.score_encoded(batch), scorer.score_encoded(batch))
    return path


def _build(
    way: Way, to: str, graph: Path, folder: Path, bundle: ModelBundle, yardstick: Yardstick, progress: Progress
) -> list[Artefact]:
    """Make the file and judge it in each precision; later precisions that fail are left out."""
    name = f"model-int8-{way.method}" if way.precisions == ("int8",) else "model"
    path = folder / f"{name}{'.xml' if to == 'openvino' else '.onnx'}"
    encoder = PairEncoder.from_folder(bundle.path, bundle.max_length)
    inputs = _inputs(encoder, yardstick.calibration) if way.calibrated else []
    way.build(graph, path, inputs)
    drafts: list[Artefact] = []
    for precision in way.precisions:
        if precision == "bf16" and not computes_in_bf16():
            continue
        scorer = _load(to, precision, way, path, bundle)
        parity = yardstick.compare(scorer, progress)
        if parity.passed or not drafts:
            drafts.append(_artefact(to, precision, way, path, len(inputs), parity))
    return drafts


def _inputs(encoder: PairEncoder, pairs: Sequence[EncodedPair]) -> list[dict[str, Any]]:
    return [dict(encoder.pad_arrays([pair])) for pair in pairs]


def _load(to: str, precision: str, way: Way, path: Path, bundle: ModelBundle) -> BatchScorer:
    """By the same classes that serve."""
    file = path.relative_to(bundle.path).as_posix()
    artefact = Artefact(to, precision, way.method, file, 0, "", True, {}, hints=way.hints)
    return load_artefact(bundle.path, artefact, bundle.max_length)


def _artefact(to: str, precision: str, way: Way, path: Path, n_calibration: int, parity: Parity) -> Artefact:
    return Artefact(
        runtime=to,
        precision=precision,
        method=way.method,
        file=f"{to}/{path.name}",
        bytes=artefact_bytes(path),
        sha256=sha256_of([weights_file(path)]),
        passed=parity.passed,
        parity={**parity.to_json(), "sentence": parity.sentence()},
        n_calibration=n_calibration,
        hints=dict(way.hints),
        versions=package_versions(_PACKAGES),
    )


def _keep(drafts: Sequence[Artefact], folder: Path, model: Path, say: Say) -> tuple[Artefact, ...]:
    """Move the file in. The list drops it first, so that it never names a file that it does not describe."""
    path, names = model / drafts[0].file, {draft.name for draft in drafts}
    before = read_artefacts(model)
    replaced = [old for old in before if old.passed and (old.name in names or old.file == drafts[0].file)]
    outdated = [old for old in before if not old.passed and old.name in names and old.method == drafts[0].method]
    others = [old for old in before if old not in replaced and old not in outdated]
    write_artefacts(model, others)
    path.parent.mkdir(exist_ok=True)
    for part in sorted({path, weights_file(path)}):
        os.replace(folder / part.name, part)
    for old in replaced:
        if old.file != drafts[0].file:  # made in another way, under another name
            for part in {model / old.file, weights_file(model / old.file)}:
                part.unlink(missing_ok=True)
    write_artefacts(model, [*others, *drafts])
    for draft in drafts:
        say(f"{draft.name} ({draft.method}, {draft.bytes / 1e6:.1f} MB): {draft.parity['sentence']}.")
    return tuple(drafts)


def _note_refused(draft: Artefact, model: Path, say: Say) -> None:
    old = [a for a in read_artefacts(model) if a.passed or (a.name, a.method) != (draft.name, draft.method)]
    write_artefacts(model, [*old, replace(draft, passed=False)])
    say(f"{draft.name} ({draft.method}) refused: {'; '.join(draft.parity['reasons'])}.")


def _refused(draft: Artefact, model: Path) -> ParityError:
    remedy = (
        "export without --int8, or to the other runtime, or serve with torch"
        if draft.precision == "int8"
        else "serve with torch"
    )
    return ParityError(
        f"{draft.name} does not rank as the model does and was removed: {'; '.join(draft.parity['reasons'])} "
        f"({draft.parity['sentence']}; figures: {model / 'exports.json'}); {remedy}"
    )
