"""What the tests of the hand-written gradients share."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import pytest
import torch
from torch import Tensor

# In float64 only the order of the sums differs.
EXACT = {"rtol": 1e-9, "atol": 1e-9}


def gradients(output: Tensor, tensors: Iterable[Tensor]) -> list[Tensor]:
    """The gradients of a fixed random combination of all numbers of the output."""
    generator = torch.Generator().manual_seed(7)
    weights = torch.randn(output.shape, dtype=output.dtype, generator=generator)
    return list(torch.autograd.grad((output * weights).sum(), list(tensors)))


@pytest.fixture
def assert_same() -> Callable[[Iterable[Tensor], Iterable[Tensor]], None]:
    """Compare two lists of tensors in float64."""

    def compare(fast: Iterable[Tensor], slow: Iterable[Tensor]) -> None:
        for a, b in zip(fast, slow, strict=True):
            torch.testing.assert_close(a, b, **EXACT)

    return compare


@pytest.fixture
def assert_same_function(assert_same) -> Callable[[Tensor, Tensor, Iterable[Tensor]], None]:
    """Compare two outputs and their gradients by the same tensors."""

    def compare(fast: Tensor, slow: Tensor, tensors: Iterable[Tensor]) -> None:
        tensors = list(tensors)
        assert_same([fast, *gradients(fast, tensors)], [slow, *gradients(slow, tensors)])

    return compare


@pytest.fixture(autouse=True, scope="module")
def tiny_models_need_one_thread(one_thread):
    yield
