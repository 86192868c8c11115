"""Weight formats: how a product with a weight is written into a graph.

Gate sums, cells, clips, mixes and pooling are FP32 in every format.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from elmo_export.graphs.builder import MICROSOFT, GraphBuilder, Value
from elmo_runtime.float16 import FP16_MAX

Lane = tuple[int, ...]  # directions computed together: (0,) forward, (1,) backward, (0, 1) both
ACTIVATION_STEPS = 63  # to either side of zero: seven bits


@dataclass(frozen=True)
class Weight:
    """A named weight: a matrix (K, N), or (N, K) if transposed; or one a direction, stacked."""

    name: str
    array: NDArray[np.float32]
    transposed: bool = False


class Fp32:
    """Weights as the checkpoint holds them, under its names.

    Each direction has matrices of its own: ONNX Runtime prepacks matrices of two axes only, and
    only with a prepacked matrix are the bits of a row the same whatever the number of rows.
    """

    name = "fp32"
    lanes: tuple[Lane, ...] = ((0,), (1,))
    stored: type[np.generic] = np.float32  # the type of h, and of input products

    def strongest(self, graph: GraphBuilder, x: Value, weight: Weight, bias: Weight) -> Value:
        """Maxima (words, count, 1, 1) of a convolution over x (words, d, 1, characters)."""
        inputs = [graph.initializer(part.name, part.array) for part in (weight, bias)]
        kernel = list(weight.array.shape[2:])
        return graph.op("GlobalMaxPool", graph.op("Conv", x, *inputs, kernel_shape=kernel))

    def product(
        self,
        graph: GraphBuilder,
        x: Value,
        weight: Weight,
        addend: Value | None = None,
        *,
        bound: float = np.inf,
    ) -> Value:
        """FP32 (rows, K) @ weight + addend -> FP32 (rows, N). No |x| is above `bound`."""
        inputs = [x, graph.initializer(weight.name, weight.array)]
        if addend is not None:
            inputs.append(addend)
        return graph.op("Gemm", *inputs, transB=int(weight.transposed))

    def input_product(self, graph: GraphBuilder, x: Value, weight: Weight, bias: Value) -> Value:
        """What `gates` needs of a layer's inputs (rows, P), for all steps at once: (rows, 4C)."""
        return self.product(graph, x, weight, bias)

    def gates(
        self, graph: GraphBuilder, product: Value, h: Value, weight: Weight, bias: Value
    ) -> Value:
        """FP32 x Wx + h Wh + b, before the activations; product is the `input_product` of x."""
        return self.product(graph, h, weight, product)

    def store(self, graph: GraphBuilder, h: Value) -> Value:
        """FP32 -> the type that is stored."""
        return h


FP32 = Fp32()


class Fp16(Fp32):
    """FP16 weights and products, for GPUs. Both directions are one product with two matrices.

    Weights named in `kept` stay FP32 with their products, for their values leave the range of
    FP16. What could leave it elsewhere is held at its end, so that nothing infinite can arise.
    """

    name = "fp16"
    lanes = ((0, 1),)
    stored = np.float16

    def __init__(self, kept: Collection[str] = ()) -> None:
        self.kept = kept

    def strongest(self, graph: GraphBuilder, x: Value, weight: Weight, bias: Weight) -> Value:
        """FP16 weights, FP32 products. The bias is added after the maximum, which it does not move.

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
        """FP32 (..., rows, K) @ weight + addend -> FP32 (..., rows, N)."""
        if weight.name not in self.kept:
            x = narrowed(graph, x) if bound > FP16_MAX else graph.cast(x, np.float16)
            y = widened(graph, self._half_product(graph, x, weight))
        else:
            y = graph.op("MatMul", x, graph.initializer(weight.name, _matrix(weight)))
        return y if addend is None else graph.op("Add", y, addend)

    def input_product(self, graph: GraphBuilder, x: Value, weight: Weight, bias: Value) -> Value:
        """Kept in FP16: half the memory traffic. Clipped here, where it costs no kernel a step."""
        return narrowed(graph, self.product(graph, x, weight))

    def gates(
        self, graph: GraphBuilder, product: Value, h: Value, weight: Weight, bias: Value
    ) -> Value:
        """Both terms are FP16 as the GEMMs leave them, h too; the sum is FP32."""
        if weight.name not in self.kept:
            recurrent = widened(graph, self._half_product(graph, h, weight))
        else:
            recurrent = self.product(graph, graph.cast(h, np.float32), weight)
        return graph.op("Add", graph.op("Add", recurrent, graph.cast(product, np.float32)), bias)

    def store(self, graph: GraphBuilder, h: Value) -> Value:
        """FP32 -> FP16."""
        return narrowed(graph, h)

    def _half_product(self, graph: GraphBuilder, x: Value, weight: Weight) -> Value:
        return graph.op("MatMul", x, graph.initializer(weight.name, _half(_matrix(weight))))


class Int8(Fp32):
    """Weights of eight bits, a scale a column; each row of activations gets a scale of its own.

    A scale a row, not one for all of them (DynamicQuantizeMatMul), because a sentence must not
    depend on its batch mates. Activations have seven bits: with eight, processors without VNNI
    saturate when they add two products. Weights named in `kept` stay FP32.
    """

    name = "int8"

    def __init__(self, kept: Collection[str] = ()) -> None:
        self.kept = kept

    def product(
        self,
        graph: GraphBuilder,
        x: Value,
        weight: Weight,
        addend: Value | None = None,
        *,
        bound: float = np.inf,
    ) -> Value:
        """FP32 (rows, K) @ weight + addend -> FP32 (rows, N)."""
        if weight.name in self.kept:
            return super().product(graph, x, weight, addend, bound=bound)
        numbers, steps = _rounded(_matrix(weight))
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


def _rounded(matrix: NDArray[np.float32]) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """(K, N) -> numbers in -127..127 and the scale (N,) of each column."""
    scales = np.maximum(np.abs(matrix).max(axis=0) / 127, 1e-30).astype(np.float32)
    return np.rint(matrix / scales).astype(np.int8), scales


def _matrix(weight: Weight) -> NDArray[np.float32]:
    return np.swapaxes(weight.array, -1, -2) if weight.transposed else weight.array


def _half(array: NDArray[np.float32]) -> NDArray[np.float16]:
    return array.clip(-FP16_MAX, FP16_MAX).astype(np.float16)


def narrowed(graph: GraphBuilder, x: Value) -> Value:
    """FP32 -> FP16, at the end of the range instead of beyond it."""
    limits = graph.scalar(-FP16_MAX), graph.scalar(FP16_MAX)
    return graph.cast(graph.op("Clip", x, *limits), np.float16)


def widened(graph: GraphBuilder, x: Value) -> Value:
    """FP16 -> FP32; a product that left the range comes back to its end."""
    limits = graph.scalar(-FP16_MAX), graph.scalar(FP16_MAX)
    return graph.op("Clip", graph.cast(x, np.float32), *limits)
