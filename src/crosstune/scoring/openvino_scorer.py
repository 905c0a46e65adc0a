"""Scoring pairs with OpenVINO: neither torch nor transformers is needed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from queue import SimpleQueue
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crosstune.errors import BundleError
from crosstune.intel import import_openvino
from crosstune.pair_encoding import EncodedPair, PairEncoder
from crosstune.scoring.base import BatchScorer, check_inputs, n_processors
from crosstune.team import team_of

_NO_HINTS: Mapping[str, str] = MappingProxyType({})
# Numbers of 8 bits in a row of its tiles.
_AMX_INPUTS = 64


class OpenVinoScorer(BatchScorer):
    """A `Scorer` over a graph in OpenVINO's format, on the CPU.

    Args:
        graph: The .xml file; its .bin lies beside it.
        encoder: Of the same model.
        precision: "fp32"; "bf16", in which the same graph is computed where the processor has it; or "int8".
        hints: OpenVINO properties beyond the usual ones.

    Raises:
        BundleError: The files are damaged, or of a model with other inputs.
        MissingExtraError: openvino is not installed.
    """

    runtime = "openvino"

    def __init__(
        self, graph: Path, encoder: PairEncoder, precision: str = "fp32", hints: Mapping[str, str] = _NO_HINTS
    ) -> None:
        super().__init__(encoder, precision, team=team_of(n_processors()))
        core = import_openvino("scoring with OpenVINO").Core()
        try:
            model = core.read_model(str(graph))
            # Left to itself the plugin computes in bf16 whatever the file holds. Beside int8 products that is wanted.
            in_bf16 = precision != "fp32" and computes_in_bf16() and not (precision == "int8" and _is_narrow(model))
            properties = {
                "NUM_STREAMS": self._team.size,
                "INFERENCE_NUM_THREADS": n_processors(),
                "INFERENCE_PRECISION_HINT": "bf16" if in_bf16 else "f32",
            }
            compiled = core.compile_model(model, "CPU", {**properties, **hints})
        except RuntimeError as error:
            raise BundleError(f"{graph} cannot be loaded ({error}); export it again") from error
        self._names = check_inputs(graph, [port.any_name for port in compiled.inputs], encoder)
        # A busy request refuses a second thread.
        self._free: SimpleQueue[Any] = SimpleQueue()
        for _ in range(self._team.size):
            self._free.put(compiled.create_infer_request())

    def _logits(self, pairs: Sequence[EncodedPair]) -> NDArray[np.float64]:
        arrays = self.encoder.pad_arrays(pairs)
        request = self._free.get()
        try:
            found = request.infer({name: arrays[name] for name in self._names})
            return np.array(found[0], np.float64)  # (batch,)
        finally:
            self._free.put(request)


def _is_narrow(model: Any) -> bool:
    """Whether a product with weights has fewer inputs than AMX takes at once.

    There OpenVINO 2026.4 gives nonsense when weights are in 8 bits and it computes in bf16.
    """
    for operation in model.get_ops():
        if operation.get_type_name() != "MatMul":
            continue
        shape = operation.input_value(1).get_partial_shape()
        if shape.is_static and len(shape) == 2:
            n_inputs = shape[1 if operation.get_attributes()["transpose_b"] else 0].get_length()
            if n_inputs < _AMX_INPUTS:
                return True
    return False


def computes_in_bf16() -> bool:
    """Whether OpenVINO has bf16 instructions to use on this processor.

    Raises:
        MissingExtraError: openvino is not installed.
    """
    capabilities = import_openvino("scoring with OpenVINO").Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    return "BF16" in capabilities
