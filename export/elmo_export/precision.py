"""Weight formats: how a product with a weight matrix is written into a graph.

Gate sums, cells, clips, mixes and pooling are FP32 in every format.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from elmo_export.builder import GraphBuilder, Value

Lane = tuple[int, ...]  # directions computed together: (0,) forward, (1,) backward, (0, 1) both


@dataclass(frozen=True)
class Weight:
    """A named weight: a matrix (K, N), or (N, K) if transposed; or one a direction, stacked."""

    name: str
    array: NDArray[np.float32]
    transposed: bool = False


class Fp32:
    """Weights as the checkpoint holds them.

    Each direction has matrices of its own: ONNX Runtime prepacks matrices of two axes only, and
    only with a prepacked matrix are the bits of a row the same whatever the number of rows.
    """

    name = "fp32"
    lanes: tuple[Lane, ...] = ((0,), (1,))
    stored: type[np.generic] = np.float32  # the type of recurrent states and layer outputs

    def product(
        self, graph: GraphBuilder, x: Value, weight: Weight, addend: Value | None = None
    ) -> Value:
        """(rows, K) @ weight + addend, as FP32 (rows, N)."""
        inputs = [x, graph.initializer(weight.name, weight.array)]
        if addend is not None:
            inputs.append(addend)
        return graph.op("Gemm", *inputs, transB=int(weight.transposed))

    def convolution(self, graph: GraphBuilder, x: Value, weight: Weight, bias: Weight) -> Value:
        """(words, d, 1, characters) -> (words, count, 1, positions), valid."""
        inputs = [graph.initializer(part.name, part.array) for part in (weight, bias)]
        return graph.op("Conv", x, *inputs, kernel_shape=list(weight.array.shape[2:]))


FORMATS: dict[str, Any] = {"fp32": Fp32}
