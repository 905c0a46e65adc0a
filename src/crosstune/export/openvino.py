"""An ONNX graph to OpenVINO's format, whole or in 8 bits."""

from __future__ import annotations

import io
from collections.abc import Sequence
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crosstune.intel import import_nncf, import_openvino

Inputs = dict[str, NDArray[np.int64]]

WEIGHT_COMPRESSION_HINTS = {"DYNAMIC_QUANTIZATION_GROUP_SIZE": "128"}
"""By which OpenVINO computes with 8-bit weights in 8 bits, scales of the other side found as it goes."""


def to_openvino(onnx_file: Path, path: Path) -> None:
    """Write a graph as .xml and .bin, weights in float32.

    Raises:
        MissingExtraError: openvino is not installed.
    """
    _save(_read(onnx_file), path)


def quantize_openvino(onnx_file: Path, path: Path, calibration: Sequence[Inputs]) -> None:
    """Write a graph with weights and products in 8 bits, all scales fixed on calibration pairs (nncf).

    nncf's default SmoothQuant stays on: with it MiniLM keeps a rank correlation of 0.996, without it 0.984. On some
    models (a tiny DistilBERT of random weights) it destroys the ranking; the gate sees that, and weights alone are
    tried next.

    Args:
        onnx_file: The float32 graph.
        path: The .xml file.
        calibration: Inputs of one pair each, such as the model will see.

    Raises:
        MissingExtraError: nncf or openvino is not installed.
    """
    nncf = import_nncf("quantizing for OpenVINO")
    with redirect_stdout(io.StringIO()):  # progress bars
        quantized = nncf.quantize(
            _read(onnx_file),
            nncf.Dataset(list(calibration)),
            model_type=nncf.ModelType.TRANSFORMER,
            subset_size=len(calibration),
        )
    _save(quantized, path)


def compress_openvino(onnx_file: Path, path: Path) -> None:
    """Write a graph with 8-bit weights alone; load it with `WEIGHT_COMPRESSION_HINTS`.

    Raises:
        MissingExtraError: nncf or openvino is not installed.
    """
    nncf = import_nncf("quantizing for OpenVINO")
    with redirect_stdout(io.StringIO()):
        compressed = nncf.compress_weights(_read(onnx_file), mode=nncf.CompressWeightsMode.INT8_SYM)
    _save(compressed, path)


def _read(onnx_file: Path) -> Any:
    return import_openvino("exporting to OpenVINO").Core().read_model(str(onnx_file))


def _save(model: Any, path: Path) -> None:
    # Half-precision weights would save space, but the file would no longer hold what was tuned.
    import_openvino("exporting to OpenVINO").save_model(model, str(path), compress_to_fp16=False)
