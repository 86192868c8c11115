"""One step of the projected LSTM with its two clips, and its weights, as nodes of a graph."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from elmo_export.builder import GraphBuilder, Value
from elmo_export.checkpoint import Checkpoint
from elmo_export.precision import Fp32, Lane, Weight

DIRECTIONS = ("forward", "backward")


class State(NamedTuple):
    """The clipped projection h (..., P) and the clipped cell c (..., C)."""

    h: Value
    c: Value


def layer_weight(checkpoint: Checkpoint, lane: Lane, depth: int, part: str) -> Weight:
    """A tensor of one layer under the checkpoint's own name; of both directions, stacked."""
    names = [f"bilm.{DIRECTIONS[d]}_stack.layers.{depth}.{part}" for d in lane]
    if len(lane) == 1:
        return Weight(names[0], checkpoint.tensors[names[0]])
    stacked = np.stack([checkpoint.tensors[name] for name in names])
    return Weight(f"bilm.both_stacks.layers.{depth}.{part}", stacked)


def input_bias(graph: GraphBuilder, checkpoint: Checkpoint, lane: Lane, depth: int) -> Value:
    """The bias with 1 added for the forget gate, which the published files leave out."""
    bias = layer_weight(checkpoint, lane, depth, "bias")
    array = bias.array if len(lane) == 1 else bias.array[:, None]
    forget = np.zeros((4, checkpoint.config.lstm_dim), np.float32)
    forget[2] = 1.0  # the file's order is i, g, f, o
    constant = graph.initializer("bilm.forget_bias", forget.ravel())
    return graph.op("Add", graph.initializer(bias.name, array), constant)


def lstm_step(
    graph: GraphBuilder,
    checkpoint: Checkpoint,
    precision: Fp32,
    product: Value,
    state: State,
    *,
    lane: Lane,
    depth: int,
) -> State:
    """Gates in the file's order i, g, f, o; product (..., 4C) is x Wx + b with the forget bias.

    c = clip(sigmoid(f) c + sigmoid(i) tanh(g));  h = clip((sigmoid(o) tanh(c)) Wp).
    """
    recurrent = layer_weight(checkpoint, lane, depth, "recurrent_weight")
    projection = layer_weight(checkpoint, lane, depth, "projection_weight")
    gates = precision.product(graph, state.h, recurrent, product)
    i, g, f, o = graph.ops("Split", gates, n_outputs=4, axis=-1, num_outputs=4)
    kept = graph.op("Mul", graph.op("Sigmoid", f), state.c)
    written = graph.op("Mul", graph.op("Sigmoid", i), graph.op("Tanh", g))
    c = _clip(graph, graph.op("Add", kept, written), checkpoint.config.cell_clip)
    shown = graph.op("Mul", graph.op("Sigmoid", o), graph.op("Tanh", c))
    h = _clip(graph, precision.product(graph, shown, projection), checkpoint.config.proj_clip)
    return State(h, c)


def _clip(graph: GraphBuilder, x: Value, limit: float | None) -> Value:
    if limit is None:
        return x
    return graph.op("Clip", x, graph.scalar(-limit), graph.scalar(limit))
