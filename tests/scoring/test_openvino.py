"""What OpenVINO is told beside the graph."""

import numpy as np
import pytest

from crosstune.scoring.openvino_scorer import _is_narrow

openvino = pytest.importorskip("openvino")


def graph(n_inputs: int, transposed: bool):
    """A product of (texts, inputs) with a weight of 100 outputs, and one of two activations."""
    from openvino import opset8

    given = opset8.parameter([-1, n_inputs], np.float32)
    weight = np.ones((100, n_inputs) if transposed else (n_inputs, 100), np.float32)
    product = opset8.matmul(given, opset8.constant(weight), False, transposed)
    square = opset8.matmul(product, product, False, True)  # (texts, texts), whose sizes are known at run time alone
    return openvino.Model([square], [given])


@pytest.mark.parametrize("transposed", [True, False])
def test_narrow_is_a_product_of_fewer_than_64_inputs(transposed):
    assert _is_narrow(graph(63, transposed))
    assert not _is_narrow(graph(64, transposed))
