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


def quantize_openvino(
    onnx_file: Path, path: Path, calibration: Sequence[Inputs], *, keep_narrowing: bool = False
) -> None:
    """Write a graph with weights and products in 8 bits, all scales fixed on calibration pairs (nncf).

    Products of two activations, which attention has, stay as they are: in 8 bits they are no faster and rank worse.
    Biases are corrected one after the other, which takes twice as long as nncf's default and ranks better. nncf's
    default SmoothQuant stays on: with it MiniLM keeps a rank correlation of 0.996, without it 0.984. On some models (a
    tiny DistilBERT of random weights) it destroys the ranking; the gate sees that, and the next way is tried.

    Args:
        onnx_file: The float32 graph.
        path: The .xml file.
        calibration: Inputs of one pair each, such as the model will see.
        keep_narrowing: Leave the products that bring a layer's inner width back to the hidden one as they are, too:
            their inputs have outliers that one scale does not serve. Half as large again, a fifth slower, and nearer
            to the model.

    Raises:
        MissingExtraError: nncf or openvino is not installed.
    """
    nncf = import_nncf("quantizing for OpenVINO")
    graph = _read(onnx_file)
    with redirect_stdout(io.StringIO()):  # progress bars
        quantized = nncf.quantize(
            graph,
            nncf.Dataset(list(calibration)),
            model_type=nncf.ModelType.TRANSFORMER,
            subset_size=len(calibration),
            fast_bias_correction=False,
            ignored_scope=nncf.IgnoredScope(names=_kept_products(graph, keep_narrowing)),
        )
    _save(quantized, path)


def _kept_products(graph: Any, keep_narrowing: bool) -> list[str]:
    """Names of the matrix products that are not quantized."""
    kept = []
    for operation in graph.get_ops():
        if operation.get_type_name() != "MatMul":
            continue
        shape = _weight_shape(operation)
        if shape is None or (keep_narrowing and shape[0] > shape[1]):
            kept.append(operation.get_friendly_name())
    return kept


def _weight_shape(product: Any) -> tuple[int, int] | None:
    """(inputs, outputs) of a product with a weight; None for one of two activations."""
    for source in product.input_values():
        node = source.get_node()
        while node.get_type_name() in ("Convert", "Transpose"):
            node = node.input_value(0).get_node()
        if node.get_type_name() == "Constant":
            rows, columns = source.get_shape()
            return (columns, rows) if product.get_attributes()["transpose_b"] else (rows, columns)
    return None


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
