"""The biLM on a graph: token vectors, then layers with skip connections, in either form of time."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from elmo_export.graphs.builder import GraphBuilder, Value
from elmo_export.graphs.lstm import LstmValues
from elmo_export.graphs.outputs import BiLmRows
from elmo_export.graphs.writer import Writer

Inputs = Mapping[str, Value]  # the inputs of docs/reference/graphs.md by name


class Form(Protocol):
    """How a graph arranges time. Vectors of a layer are one value per lane, forward first."""

    def tokens(self) -> list[Value]:
        """Token vectors, each direction in its own order of time."""

    def layer(self, x: Sequence[Value], depth: int) -> tuple[list[Value], LstmValues]:
        """Inputs of a layer -> its outputs, and the states after each sentence's last step."""

    def rows(self, layer: Sequence[Value]) -> list[Value]:
        """Vectors of a layer -> values (rows, P)."""

    def positions(self) -> Value:
        """(batch, length, 2): the rows of a token's vectors; past a sentence, the row of zeros."""


def write_bilm(
    writer: Writer, inputs: Inputs, make_form: Callable[[Writer, Inputs], Form]
) -> BiLmRows:
    """Inputs -> the rows of all layers in the order of the form, and the states after them."""
    form = make_form(writer, inputs)
    x = form.tokens()
    layers, states = [x], []
    for depth in range(writer.config.n_layers):
        y, state = form.layer(x, depth)
        if writer.config.use_skip_connections and depth > 0:
            # The sum is the layer's output. It never enters the recurrent state.
            y = [writer.graph.op("Add", *pair) for pair in zip(y, x, strict=True)]
        layers.append(y)
        states.append(state)
        x = y
    return BiLmRows([_flat(writer, form, layer) for layer in layers], form.positions(), states)


def _flat(writer: Writer, form: Form, layer: Sequence[Value]) -> Value:
    """Vectors of a layer -> (rows, P), the last row zero."""
    zero = np.zeros((1, writer.config.projection_dim), np.float32)
    zero_row = writer.graph.initializer("zero_row", zero)
    return writer.graph.op("Concat", *form.rows(layer), zero_row, axis=0)


@dataclass(frozen=True)
class BatchSizes:
    """The sizes of a batch; both boundary tokens count."""

    batch: Value  # (1,)
    longest: Value  # (1,), the padded length
    lengths: Value  # (batch,) int64

    @classmethod
    def of(cls, graph: GraphBuilder, inputs: Inputs) -> BatchSizes:
        """The sizes of the batch that a graph is given."""
        batch, longest = (graph.size(inputs["word_index"], axis) for axis in (0, 1))
        lengths = graph.cast(inputs["lengths"], np.int64)
        return cls(batch, longest, graph.op("Add", lengths, graph.ints(2)))
