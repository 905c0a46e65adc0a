"""Scoring pairs with ONNX Runtime: neither torch nor transformers is needed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from crosstune.errors import BundleError
from crosstune.extras import require
from crosstune.pair_encoding import EncodedPair, PairEncoder
from crosstune.scoring.base import BatchScorer, check_inputs, n_processors
from crosstune.team import team_of


class OnnxScorer(BatchScorer):
    """A `Scorer` over an exported graph, on the CPU.

    Args:
        graph: The .onnx file.
        encoder: Of the same model.
        precision: What the graph computes in: "fp32" or "int8".

    Raises:
        BundleError: The file is damaged, or of a model with other inputs.
        MissingExtraError: onnxruntime is not installed.
    """

    runtime = "onnx"

    def __init__(self, graph: Path, encoder: PairEncoder, precision: str = "fp32") -> None:
        super().__init__(encoder, precision, team=team_of(n_processors()))
        ort = require("onnxruntime", extra="onnx", what="scoring with ONNX Runtime")
        options = ort.SessionOptions()
        options.intra_op_num_threads = n_processors() // self._team.size
        options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
        # The pattern is learnt for one shape and our batches have many.
        options.enable_mem_pattern = False
        options.log_severity_level = 3
        try:
            self._session = ort.InferenceSession(str(graph), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # A dozen kinds, without a common base.
            raise BundleError(f"{graph} cannot be loaded ({error}); export it again") from error
        self._names = check_inputs(graph, [found.name for found in self._session.get_inputs()], encoder)

    def _logits(self, pairs: Sequence[EncodedPair]) -> NDArray[np.float64]:
        arrays = self.encoder.pad_arrays(pairs)
        (logits,) = self._session.run(["logits"], {name: arrays[name] for name in self._names})
        return np.asarray(logits, np.float64)  # (batch,)
