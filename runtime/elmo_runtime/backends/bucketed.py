"""Padding to a few shapes, because ONNX Runtime keeps GPU memory for every new one.

The memory arena of ONNX Runtime on CUDA grew with every new shape, to 22 GB after an hour of
different batches. Free axes are therefore padded to a few sizes per power of two, and the outputs
are cut to their real sizes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from elmo_runtime.bundle.manifest import Graph

Arrays = dict[str, NDArray[Any]]
LEAST = {"batch": 1, "marked_length": 8, "words": 64}  # the padded axes and their smallest sizes
STEPS = 4  # sizes per power of two, so that at most a quarter is padding


def bucket(size: int, least: int) -> int:
    """The smallest bucket size that is at least `size`."""
    if size <= least:
        return least
    step = max(least, (1 << (size - 1).bit_length()) // (2 * STEPS))
    return -(-size // step) * step


class Buckets:
    """Pads the inputs of a padded graph to buckets and cuts its outputs to their real sizes."""

    def __init__(self, graph: Graph) -> None:
        self._inputs = {tensor.name: tensor.axes for tensor in graph.inputs}
        self._outputs = {tensor.name: tensor.axes for tensor in graph.outputs}

    def pad(self, inputs: Mapping[str, NDArray[Any]]) -> Arrays:
        """Arrays by name -> the same arrays with zeros at the end of the free axes."""
        sizes = {
            axis: bucket(size, LEAST[axis]) if axis in LEAST else size
            for axis, size in self._sizes(inputs).items()
        }
        return {name: _pad(array, self._inputs[name], sizes) for name, array in inputs.items()}

    def cut(
        self, outputs: Mapping[str, NDArray[Any]], inputs: Mapping[str, NDArray[Any]]
    ) -> Arrays:
        """The outputs of padded inputs -> the outputs of these inputs."""
        sizes = self._sizes(inputs)
        if "marked_length" in sizes:
            sizes["length"] = sizes["marked_length"] - 2  # without the two boundary tokens
        return {
            name: array[tuple(_real(axis, sizes) for axis in self._outputs[name])]
            for name, array in outputs.items()
        }

    def _sizes(self, inputs: Mapping[str, NDArray[Any]]) -> dict[str, int]:
        return {
            axis: size
            for name, array in inputs.items()
            for axis, size in zip(self._inputs[name], array.shape, strict=True)
            if isinstance(axis, str)
        }


def _pad(array: NDArray[Any], axes: Sequence[int | str], sizes: Mapping[str, int]) -> NDArray[Any]:
    """The array with zeros at the end: to a padded graph, they are sentences without tokens."""
    shape = tuple(axis if isinstance(axis, int) else sizes[axis] for axis in axes)
    if shape == array.shape:
        return array
    padded = np.zeros(shape, array.dtype)
    padded[tuple(slice(size) for size in array.shape)] = array
    return padded


def _real(axis: int | str, sizes: Mapping[str, int]) -> slice:
    return slice(sizes[axis]) if isinstance(axis, str) else slice(None)
