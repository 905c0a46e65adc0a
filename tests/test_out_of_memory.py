import numpy as np
import pytest
import torch

from crosstune.out_of_memory import in_halves, is_out_of_memory


def test_what_counts_as_out_of_memory():
    assert is_out_of_memory(torch.OutOfMemoryError("CUDA out of memory"))
    assert is_out_of_memory(RuntimeError("[enforce fail] DefaultCPUAllocator: not enough memory: you tried"))
    assert not is_out_of_memory(RuntimeError("mat1 and mat2 shapes cannot be multiplied"))


def squares(most, asked):
    def compute(items):
        asked.append(list(items))
        if len(items) > most:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return np.array([item**2 for item in items])

    return compute


def test_halves_until_they_fit_in_the_order_given():
    asked = []
    assert in_halves(squares(2, asked), [3, 1, 2, 5, 4]).tolist() == [9, 1, 4, 25, 16]
    assert asked == [[3, 1, 2, 5, 4], [3, 1], [2, 5, 4], [2], [5, 4]]


def test_what_fits_is_computed_at_once():
    asked = []
    assert in_halves(squares(5, asked), [3, 1]).tolist() == [9, 1]
    assert asked == [[3, 1]]


def test_one_item_that_does_not_fit_and_other_errors_are_raised():
    asked = []
    with pytest.raises(torch.OutOfMemoryError):
        in_halves(squares(0, asked), [3, 1])
    assert asked == [[3, 1], [3]]

    def broken(items):
        raise RuntimeError("shapes cannot be multiplied")

    with pytest.raises(RuntimeError, match="shapes"):
        in_halves(broken, [3, 1])
