"""A torch model to an ONNX graph that takes any number of pairs of any length."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crosstune.errors import CheckpointError
from crosstune.extras import require

# The first with LayerNormalization as one operator.
_OPSET = 17
_MAX_GRAPH_DIFFERENCE = 1e-4


def to_onnx(model: Any, sample: Mapping[str, NDArray[np.int64]], path: Path) -> None:
    """Write the graph of a model's lean forward pass: the sample's inputs to "logits" (pairs,).

    Args:
        model: transformers sequence-classification model with one logit, in float32 on the CPU.
        sample: Inputs (pairs, tokens), from `PairEncoder.pad_arrays`, of two pairs or more; only traced, not kept.
        path: The .onnx file.

    Raises:
        CheckpointError: The model does something that ONNX cannot express.
        MissingExtraError: onnx or torch is not installed.
    """
    require("onnx", extra="onnx", what="exporting to ONNX")
    torch = require("torch", extra="train", what="exporting to ONNX")
    from crosstune.lean import lean

    model.eval()
    names = list(sample)
    inputs = {name: torch.from_numpy(array) for name, array in sample.items()}
    axes = {name: {0: "pairs", 1: "tokens"} for name in names} | {"logits": {0: "pairs"}}
    with _quietly(), _head_as_dot_product(model), torch.inference_mode():
        try:
            torch.onnx.export(
                lean(model).eval(),
                (inputs,),
                str(path),
                input_names=names,
                output_names=["logits"],
                dynamic_axes=axes,
                opset_version=_OPSET,
                dynamo=False,
            )
        except Exception as error:  # Tracer and exporter raise a dozen kinds; each means the same.
            reason = str(error).strip().split("\n")[0]
            raise CheckpointError(
                f"the model ({model.config.model_type}) cannot be written as an ONNX graph: {reason}; score it with "
                "torch instead"
            ) from error


def check_graph(expected: NDArray[np.float64], found: NDArray[np.float64]) -> None:
    """Compare a graph's logits with torch's on pairs of several shapes.

    Raises:
        CheckpointError: They differ: the tracer has frozen something that changes with the shape.
    """
    largest = float(np.abs(expected - found).max())
    if not largest <= _MAX_GRAPH_DIFFERENCE:  # NaN too
        raise CheckpointError(
            f"the exported graph does not compute what the model does: logits differ by up to {largest:.2g} (allowed: "
            f"{_MAX_GRAPH_DIFFERENCE:g}); this kind of model cannot be exported, score it with torch instead"
        )


@contextmanager
def _head_as_dot_product(model: Any) -> Iterator[None]:
    """Write the last layer as a product and a sum, which no runtime rounds to bf16 or to 8 bits.

    As a matrix product it would be rounded like all the others, and logits of 8 bits tie where the model does not.
    """
    from torch import Tensor, nn

    class DotProduct(nn.Module):
        def __init__(self, head: nn.Linear) -> None:
            super().__init__()
            self.head = head

        def forward(self, hidden: Tensor) -> Tensor:
            logit = (hidden * self.head.weight[0]).sum(-1, keepdim=True)
            return logit if self.head.bias is None else logit + self.head.bias

    # By its one output: in some families the head is registered before the encoder.
    (name,) = (n for n, m in model.named_modules() if isinstance(m, nn.Linear) and m.out_features == 1)
    parent, _, attribute = name.rpartition(".")
    head = model.get_submodule(name)
    setattr(model.get_submodule(parent), attribute, DotProduct(head).eval())
    try:
        yield
    finally:
        setattr(model.get_submodule(parent), attribute, head)


@contextmanager
def _quietly() -> Iterator[None]:
    """Tracing warns of every shape that becomes a number; `check_graph` says whether one of them matters."""
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)
