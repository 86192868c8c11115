"""Matrices in panels of sixteen columns, the order in which elmo_runtime/operators reads them."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from elmo_export.builder import GraphBuilder, Value
from elmo_runtime.config import ElmoConfig

COLUMNS = 16
SUFFIX = "/panels"  # of an initializer that holds the matrix so


def fits_panels(config: ElmoConfig) -> bool:
    """Whether the LSTM's matrices have whole panels, as those of all published models do."""
    return config.projection_dim % COLUMNS == 0 and config.lstm_dim % COLUMNS == 0


def in_panels(matrix: NDArray[Any]) -> NDArray[Any]:
    """(K, N) -> (N / 16, K / d, 16, d): d rows of a column lie together, 2 in int8, else 1."""
    depth = 2 if matrix.dtype == np.int8 else 1
    rows, columns = matrix.shape
    blocks = matrix.reshape(rows // depth, depth, columns // COLUMNS, COLUMNS)
    return np.ascontiguousarray(blocks.transpose(2, 0, 3, 1))


def as_matrix(panels: NDArray[Any]) -> NDArray[Any]:
    """The inverse of `in_panels`."""
    count, steps, columns, depth = panels.shape
    return panels.transpose(1, 3, 0, 2).reshape(steps * depth, count * columns)


def write_as_matrix(graph: GraphBuilder, panels: Value, shape: tuple[int, ...]) -> Value:
    """Nodes for `as_matrix`; ONNX Runtime computes them once, as it opens the graph."""
    return graph.reshape(graph.op("Transpose", panels, perm=[1, 3, 0, 2]), *shape)
