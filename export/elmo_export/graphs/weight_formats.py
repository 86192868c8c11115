"""Weight formats: how a product with a weight is written into a graph.

Gate sums, cells, clips, mixes and pooling are FP32 in every format.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from elmo_export.graphs.builder import MICROSOFT, GraphBuilder, Value
from elmo_runtime.float16 import FP16_MAX

# Directions that are computed together: (0,) forward, (1,) backward, (0, 1) both.
Lane = tuple[int, ...]
EACH_DIRECTION: tuple[Lane, ...] = ((0,), (1,))
BOTH_DIRECTIONS: tuple[Lane, ...] = ((0, 1),)
ACTIVATION_STEPS = 63  # on either side of zero: seven bits


@dataclass(frozen=True)
class Weight:
    """A named weight.

    It is a matrix (K, N), or (N, K) if transposed. The matrices of both directions are stacked.
    """

    name: str
    array: NDArray[np.float32]
    transposed: bool = False

    @property
    def matrix(self) -> NDArray[np.float32]:
        """(..., K, N)."""
        return np.swapaxes(self.array, -1, -2) if self.transposed else self.array


class WeightFormat(Protocol):
    """The products of a model, as nodes of a graph."""

    @property
    def name(self) -> str:
        """The precision in the manifest and in the names of files."""

    @property
    def lanes(self) -> tuple[Lane, ...]:
        """The lanes of a padded layer: one product each."""

    @property
    def stored(self) -> type[np.generic]:
        """The type of h and of input products between nodes."""

    def max_convolution(self, graph: GraphBuilder, x: Value, weight: Weight, bias: Weight) -> Value:
        """FP32 (words, d, 1, characters) -> FP32 maxima over positions (words, count, 1, 1)."""

    def product(
        self,
        graph: GraphBuilder,
        x: Value,
        weight: Weight,
        addend: Value | None = None,
        *,
        bound: float = np.inf,
    ) -> Value:
        """FP32 (..., rows, K) @ weight + addend -> FP32 (..., rows, N). No |x| exceeds `bound`."""

    def input_product(self, graph: GraphBuilder, x: Value, weight: Weight, bias: Value) -> Value:
        """What `gates` needs of the inputs (rows, P) of all steps: (rows, 4C)."""

    def gates(
        self, graph: GraphBuilder, product: Value, h: Value, weight: Weight, bias: Value
    ) -> Value:
        """FP32 x Wx + h Wh + b, before the activations; `product` is the `input_product` of x."""

    def store(self, graph: GraphBuilder, h: Value) -> Value:
        """FP32 -> the type `stored`."""


class Fp32Weights:
    """Weights as the checkpoint holds them, under its names.

    Each direction has its own matrices. ONNX Runtime prepacks only matrices of two axes, and only
    a prepacked matrix gives a row the same bits for every number of rows.
    """

    name = "fp32"
    lanes = EACH_DIRECTION
    stored: type[np.generic] = np.float32

    def max_convolution(self, graph: GraphBuilder, x: Value, weight: Weight, bias: Weight) -> Value:
        """One convolution with its bias, then the maximum."""
        return _fp32_convolution(graph, x, weight, bias)

    def product(
        self,
        graph: GraphBuilder,
        x: Value,
        weight: Weight,
        addend: Value | None = None,
        *,
        bound: float = np.inf,
    ) -> Value:
        """One Gemm."""
        return _fp32_product(graph, x, weight, addend)

    def input_product(self, graph: GraphBuilder, x: Value, weight: Weight, bias: Value) -> Value:
        """The bias is added here, once for all steps."""
        return self.product(graph, x, weight, bias)

    def gates(
        self, graph: GraphBuilder, product: Value, h: Value, weight: Weight, bias: Value
    ) -> Value:
        """One product per step."""
        return self.product(graph, h, weight, product)

    def store(self, graph: GraphBuilder, h: Value) -> Value:
        """The value itself."""
        return h


FP32 = Fp32Weights()


class Fp16Weights:
    """FP16 weights and products, for GPUs. Both directions are one product with two matrices.

    Weights named in `kept` stay FP32 with their products, because their values exceed the range of
    FP16. All other values are clipped to that range, so that no infinity can arise.
    """

    name = "fp16"
    lanes = BOTH_DIRECTIONS
    stored: type[np.generic] = np.float16

    def __init__(self, kept: Collection[str] = ()) -> None:
        self.kept = kept

    def max_convolution(self, graph: GraphBuilder, x: Value, weight: Weight, bias: Weight) -> Value:
        """FP16 weights, FP32 products. The bias is added after the maximum, which it cannot change.

        cuDNN has no FP16 plan for filters this narrow: ONNX Runtime 1.31 printed an error to stderr
        for every new shape, and fell back.
        """
        if weight.name in self.kept:
            w = graph.initializer(weight.name, weight.array)
        else:
            w = graph.cast(graph.initializer(weight.name, _half(weight.array)), np.float32)
        kernel = list(weight.array.shape[2:])
        y = graph.op("GlobalMaxPool", graph.op("Conv", x, w, kernel_shape=kernel))
        return graph.op("Add", y, graph.initializer(bias.name, bias.array.reshape(-1, 1, 1)))

    def product(
        self,
        graph: GraphBuilder,
        x: Value,
        weight: Weight,
        addend: Value | None = None,
        *,
        bound: float = np.inf,
    ) -> Value:
        """An FP16 product; the sum with `addend` is FP32."""
        if weight.name not in self.kept:
            x = narrowed(graph, x) if bound > FP16_MAX else graph.cast(x, np.float16)
            y = widened(graph, self._half_product(graph, x, weight))
        else:
            y = graph.op("MatMul", x, graph.initializer(weight.name, weight.matrix))
        return y if addend is None else graph.op("Add", y, addend)

    def input_product(self, graph: GraphBuilder, x: Value, weight: Weight, bias: Value) -> Value:
        """Stored in FP16, for half the memory traffic.

        It is clipped here, where the clip costs no kernel per step.
        """
        return narrowed(graph, self.product(graph, x, weight))

    def gates(
        self, graph: GraphBuilder, product: Value, h: Value, weight: Weight, bias: Value
    ) -> Value:
        """Both terms are FP16 as the GEMMs write them, and so is h; the sum is FP32."""
        if weight.name not in self.kept:
            recurrent = widened(graph, self._half_product(graph, h, weight))
        else:
            recurrent = self.product(graph, graph.cast(h, np.float32), weight)
        return graph.op("Add", graph.op("Add", recurrent, graph.cast(product, np.float32)), bias)

    def store(self, graph: GraphBuilder, h: Value) -> Value:
        """FP32 -> FP16."""
        return narrowed(graph, h)

    def _half_product(self, graph: GraphBuilder, x: Value, weight: Weight) -> Value:
        return graph.op("MatMul", x, graph.initializer(weight.name, _half(weight.matrix)))


class Int8Weights:
    """Eight-bit weights with a scale per column; activations have a scale per row.

    One scale for all rows (DynamicQuantizeMatMul) would make a sentence depend on the rest of the
    batch. Activations have seven bits: with eight, processors without VNNI saturate when they add
    two products. Weights named in `kept` stay FP32.
    """

    name = "int8"
    lanes = EACH_DIRECTION
    stored: type[np.generic] = np.float32

    def __init__(self, kept: Collection[str] = ()) -> None:
        self.kept = kept

    def max_convolution(self, graph: GraphBuilder, x: Value, weight: Weight, bias: Weight) -> Value:
        """Convolutions stay FP32."""
        return _fp32_convolution(graph, x, weight, bias)

    def product(
        self,
        graph: GraphBuilder,
        x: Value,
        weight: Weight,
        addend: Value | None = None,
        *,
        bound: float = np.inf,
    ) -> Value:
        """An integer product, scaled to FP32."""
        if weight.name in self.kept:
            return _fp32_product(graph, x, weight, addend)
        numbers, steps = _rounded(weight.matrix)
        rounded = graph.initializer(f"{weight.name}/int8", numbers)
        scales = graph.initializer(f"{weight.name}/scale", steps)
        peak = graph.op("ReduceMax", graph.op("Abs", x), graph.ints(1), keepdims=1)
        peak = graph.op("Max", peak, graph.scalar(1e-30))  # a row of zeros has no scale
        step, middle = graph.scalar(1 / ACTIVATION_STEPS), graph.scalar(ACTIVATION_STEPS, np.uint8)
        y = graph.op(
            "MatMulIntegerToFloat",
            graph.op("QuantizeLinear", graph.op("Div", x, peak), step, middle),
            rounded,
            step,
            scales,
            middle,
            domain=MICROSOFT,
        )
        y = graph.op("Mul", y, peak)
        return y if addend is None else graph.op("Add", y, addend)

    def input_product(self, graph: GraphBuilder, x: Value, weight: Weight, bias: Value) -> Value:
        """The bias is added here, once for all steps."""
        return self.product(graph, x, weight, bias)

    def gates(
        self, graph: GraphBuilder, product: Value, h: Value, weight: Weight, bias: Value
    ) -> Value:
        """One product per step."""
        return self.product(graph, h, weight, product)

    def store(self, graph: GraphBuilder, h: Value) -> Value:
        """The value itself: only products are integers."""
        return h


def narrowed(graph: GraphBuilder, x: Value) -> Value:
    """FP32 -> FP16, clipped to the range of FP16."""
    limits = graph.scalar(-FP16_MAX), graph.scalar(FP16_MAX)
    return graph.cast(graph.op("Clip", x, *limits), np.float16)


def widened(graph: GraphBuilder, x: Value) -> Value:
    """FP16 -> FP32; an infinite product becomes the largest finite one."""
    limits = graph.scalar(-FP16_MAX), graph.scalar(FP16_MAX)
    return graph.op("Clip", graph.cast(x, np.float32), *limits)


def _fp32_convolution(graph: GraphBuilder, x: Value, weight: Weight, bias: Weight) -> Value:
    inputs = [graph.initializer(part.name, part.array) for part in (weight, bias)]
    kernel = list(weight.array.shape[2:])
    return graph.op("GlobalMaxPool", graph.op("Conv", x, *inputs, kernel_shape=kernel))


def _fp32_product(graph: GraphBuilder, x: Value, weight: Weight, addend: Value | None) -> Value:
    inputs = [x, graph.initializer(weight.name, weight.array)]
    if addend is not None:
        inputs.append(addend)
    return graph.op("Gemm", *inputs, transB=int(weight.transposed))


def _rounded(matrix: NDArray[np.float32]) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """(K, N) -> numbers in -127..127 and the scale (N,) of each column."""
    scales = np.maximum(np.abs(matrix).max(axis=0) / 127, 1e-30).astype(np.float32)
    return np.rint(matrix / scales).astype(np.int8), scales


def _half(array: NDArray[np.float32]) -> NDArray[np.float16]:
    return array.clip(-FP16_MAX, FP16_MAX).astype(np.float16)
