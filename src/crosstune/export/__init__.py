"""A tuned model to files that run without torch, and the proof that they rank alike."""

from crosstune.export.int8 import quantize_onnx
from crosstune.export.onnx import check_graph, to_onnx
from crosstune.export.openvino import WEIGHT_COMPRESSION_HINTS, compress_openvino, quantize_openvino, to_openvino
from crosstune.export.parity import Parity, ParityError, compare_logits

__all__ = [
    "WEIGHT_COMPRESSION_HINTS",
    "Parity",
    "ParityError",
    "check_graph",
    "compare_logits",
    "compress_openvino",
    "quantize_onnx",
    "quantize_openvino",
    "to_onnx",
    "to_openvino",
]
