"""An ONNX graph in 8 bits: a quarter of the size, without calibration."""

from __future__ import annotations

import logging
from pathlib import Path

from crosstune.extras import require

# Without Gather the table of word embeddings stays in float32, half of a small model's file.
_QUANTIZED = ["MatMul", "Gemm", "Gather"]


def quantize_onnx(onnx_file: Path, path: Path) -> None:
    """Write a graph with 8-bit weights, one scale for each output; inputs are scaled batch by batch.

    Raises:
        MissingExtraError: onnxruntime or onnx is not installed.
    """
    require("onnx", extra="onnx", what="quantizing for ONNX Runtime")
    quantization = require("onnxruntime.quantization", extra="onnx", what="quantizing for ONNX Runtime")
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)  # advice on pre-processing, which changes nothing for these graphs
    try:
        quantization.quantize_dynamic(
            onnx_file,
            path,
            op_types_to_quantize=_QUANTIZED,
            per_channel=True,
            weight_type=quantization.QuantType.QInt8,
        )
    finally:
        logging.disable(level)
