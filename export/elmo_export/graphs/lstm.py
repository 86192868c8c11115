"""The projected LSTM with its two clips: one layer of it as nodes of a graph."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from elmo_export.checkpoint import Checkpoint
from elmo_export.graphs.builder import GraphBuilder, Value
from elmo_export.graphs.weight_formats import Lane, Weight, WeightFormat
from elmo_export.graphs.writer import Writer
from elmo_runtime.config import ElmoConfig

DIRECTIONS = ("forward", "backward")


class LstmValues(NamedTuple):
    """The clipped projection h (..., P) and the clipped cell c (..., C)."""

    h: Value
    c: Value


@dataclass(frozen=True, kw_only=True)
class LstmLayer:
    """One layer in the directions of one lane; with two of them, values have a leading axis 2."""

    config: ElmoConfig
    weight_format: WeightFormat
    lane: Lane
    input: Weight  # (P, 4C), gates in the order of the published files: i, g, f, o
    recurrent: Weight  # (P, 4C)
    projection: Weight  # (C, P)
    bias: Value  # (4C,) or (2, 1, 4C), the forget gate's 1 included

    @classmethod
    def of(cls, writer: Writer, lane: Lane, depth: int) -> LstmLayer:
        """The layer at `depth`; its bias becomes a value of the writer's graph."""
        parts = ("input_weight", "recurrent_weight", "projection_weight", "bias")
        weights = [layer_weight(writer.checkpoint, lane, depth, part) for part in parts]
        return cls(
            config=writer.config,
            weight_format=writer.weight_format,
            lane=lane,
            input=weights[0],
            recurrent=weights[1],
            projection=weights[2],
            bias=_gate_bias(writer.graph, weights[3]),
        )

    @property
    def lead(self) -> tuple[int, ...]:
        """The leading axis of values that hold both directions."""
        return () if len(self.lane) == 1 else (2,)

    def products(self, graph: GraphBuilder, x: Value) -> Value:
        """Inputs of all steps (..., rows, P) -> what `step` needs of them (..., rows, 4C)."""
        return self.weight_format.input_product(graph, x, self.input, self.bias)

    def step(self, graph: GraphBuilder, product: Value, before: LstmValues) -> LstmValues:
        """One time step: a row of `products` and the state before it -> the state after it.

        c = clip(sigmoid(f) c + sigmoid(i) tanh(g));  h = clip((sigmoid(o) tanh(c)) Wp).
        """
        z = self.weight_format.gates(graph, product, before.h, self.recurrent, self.bias)
        i, g, f, o = graph.ops("Split", z, n_outputs=4, axis=-1, num_outputs=4)
        kept = graph.op("Mul", graph.op("Sigmoid", f), before.c)
        written = graph.op("Mul", graph.op("Sigmoid", i), graph.op("Tanh", g))
        c = _clip(graph, graph.op("Add", kept, written), self.config.cell_clip)
        shown = graph.op("Mul", graph.op("Sigmoid", o), graph.op("Tanh", c))
        h = self.weight_format.product(graph, shown, self.projection, bound=1.0)
        return LstmValues(_clip(graph, h, self.config.proj_clip), c)


def layer_weight(checkpoint: Checkpoint, lane: Lane, depth: int, part: str) -> Weight:
    """A tensor of one layer under its name in the checkpoint; both directions are stacked."""
    names = [f"bilm.{DIRECTIONS[d]}_stack.layers.{depth}.{part}" for d in lane]
    if len(lane) == 1:
        return Weight(names[0], checkpoint.tensors[names[0]])
    stacked = np.stack([checkpoint.tensors[name] for name in names])
    return Weight(f"bilm.both_stacks.layers.{depth}.{part}", stacked)


def _gate_bias(graph: GraphBuilder, bias: Weight) -> Value:
    """The bias plus 1 for the forget gate, which the published files leave out."""
    array = bias.array if bias.array.ndim == 1 else bias.array[:, None]
    forget = np.zeros((4, array.shape[-1] // 4), np.float32)
    forget[2] = 1.0
    constant = graph.initializer("bilm.forget_bias", forget.ravel())
    return graph.op("Add", graph.initializer(bias.name, array), constant)


def _clip(graph: GraphBuilder, x: Value, limit: float | None) -> Value:
    if limit is None:
        return x
    return graph.op("Clip", x, graph.scalar(-limit), graph.scalar(limit))
