"""One bidirectional layer over packed rows: a Loop of stock operators, or one operator of ours.

Where the sizes allow it, the Loop is the body of a function. ONNX Runtime computes the function
by the operator of elmo_runtime/operators that has its name, and where that library is not
registered puts the Loop in its place.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from elmo_export.builder import GraphBuilder, Value
from elmo_export.cell import LstmLayer, State
from elmo_export.panels import SUFFIX, fits_panels, in_panels, write_as_matrix

DIRECTIONS = (0, 1)
OPERATORS = {  # by the types of the recurrent and of the projection weights
    ("float32", "float32"): "PackedLstmpFp32",
    ("int8", "int8"): "PackedLstmpInt8",
    ("int8", "float32"): "PackedLstmpInt8Fp32",
}


@dataclass(frozen=True)
class Steps:
    """What a layer runs on; a pair is for the forward and the backward direction.

    N counts packed rows, M is the longest marked length; sentences are sorted by falling length.
    """

    products: Sequence[Value]  # (distinct inputs, 4C) x 2
    rows: Sequence[Value]  # (N,) x 2: which of them each packed row is
    counts: Value  # (M,): rows of each step, falling, at last perhaps 0
    h: Sequence[Value]  # (batch, P) x 2 before the first step
    c: Sequence[Value]  # (batch, C) x 2

    def values(self) -> list[Value]:
        """All of them, in the order of the function's inputs."""
        return [*self.products, *self.rows, self.counts, *self.h, *self.c]


FORMAL = Steps(("products0", "products1"), ("rows0", "rows1"), "counts", ("h0", "h1"), ("c0", "c1"))


def run_layer(
    graph: GraphBuilder, layers: Sequence[LstmLayer], steps: Steps
) -> tuple[list[Value], list[Value]]:
    """The outputs (N, P) of both directions, and the cells (batch, C) after each last step."""
    name = _operator(layers)
    if name is None:
        return _write_loop(graph, layers, steps)
    panels = [
        graph.initializer(held, array)
        if array.ndim == 1
        else graph.initializer(f"{held}{SUFFIX}", in_panels(array))
        for held, array in _weights(layers).items()
    ]
    config = layers[0].config
    results = graph.call(
        _function(name, layers),
        *steps.values(),
        *panels,
        cell_clip=config.cell_clip or math.inf,
        proj_clip=config.proj_clip or math.inf,
        h_range=config.proj_clip or _largest_h(layers),
    )
    return list(results[:2]), list(results[2:])


def _operator(layers: Sequence[LstmLayer]) -> str | None:
    """The operator of elmo_runtime/operators for these weights; None if there is none."""
    if not fits_panels(layers[0].config):
        return None
    types = [{_type(layer, part) for layer in layers} for part in ("recurrent", "projection")]
    if any(len(both) > 1 for both in types):
        return None
    return OPERATORS.get((types[0].pop(), types[1].pop()))


def _largest_h(layers: Sequence[LstmLayer]) -> float:
    """What |h| cannot exceed without a clip, since |sigmoid * tanh| <= 1."""
    sums = [np.abs(layer.projection.array).sum(axis=0).max() for layer in layers]
    return float(max(sums))


def _function(name: str, layers: Sequence[LstmLayer]) -> onnx.FunctionProto:
    """The Loop as a function of `Steps` and of the weights as `_weights` orders them."""
    graph = GraphBuilder(name)
    weights = _weights(layers)
    formal = [f"weight{number}" for number in range(len(weights))]
    for value, (held, array) in zip(formal, weights.items(), strict=True):
        if array.ndim == 1:  # scales
            graph.rename(held, value)
        else:
            graph.rename(held, write_as_matrix(graph, value, array.shape))
    outputs, cells = _write_loop(graph, layers, FORMAL)
    attributes = ("cell_clip", "proj_clip", "h_range")
    return graph.function([*FORMAL.values(), *formal], [*outputs, *cells], attributes=attributes)


def _type(layer: LstmLayer, part: str) -> str:
    matrix = next(iter(layer.precision.held(getattr(layer, part)).values()))
    return matrix.dtype.name


def _weights(layers: Sequence[LstmLayer]) -> dict[str, NDArray[Any]]:
    """What is held for both recurrent matrices, then both projections; matrices before scales."""
    held = [
        layer.precision.held(weight)
        for part in ("recurrent", "projection")
        for layer in layers
        for weight in [getattr(layer, part)]
    ]
    arrays = {name: array for weight in held for name, array in weight.items()}
    return dict(sorted(arrays.items(), key=lambda item: -item[1].ndim))


def _write_loop(
    graph: GraphBuilder, layers: Sequence[LstmLayer], steps: Steps
) -> tuple[list[Value], list[Value]]:
    """The same results as `run_layer`, of stock operators."""
    batch = graph.size(steps.h[0], 0)
    n_steps = graph.op("NonZero", steps.counts)
    n_steps = graph.op("Squeeze", graph.size(n_steps, 1))
    none = graph.initializer("no_cells", np.zeros((0, layers[0].config.lstm_dim), np.float32))
    states = [value for d in DIRECTIONS for value in (steps.h[d], steps.c[d], none)]
    results = graph.ops(
        "Loop",
        n_steps,
        graph.initializer("true", np.array(True)),
        *states,
        n_outputs=8,
        body=_body(graph, layers, steps, batch),
    )
    # A step's rows are padded to the full batch, because Loop stacks equal shapes only.
    counts = graph.op("Slice", steps.counts, graph.ints(0), graph.reshape(n_steps, 1))
    running = graph.op("Less", graph.count(batch), graph.op("Unsqueeze", counts, graph.ints(1)))
    running = graph.reshape(running, -1)
    outputs = [
        graph.op(
            "Compress", graph.reshape(stacked, -1, layers[0].config.projection_dim), running, axis=0
        )
        for stacked in results[6:]
    ]
    return outputs, [results[2], results[5]]


def _body(
    graph: GraphBuilder, layers: Sequence[LstmLayer], steps: Steps, batch: Value
) -> onnx.GraphProto:
    """One time step of both directions.

    The state that a step leaves shrinks to the sentences that go on. The cells of those that
    end are put before the ones that ended earlier; at last all are there, in sorted order.
    """
    P, C = layers[0].config.projection_dim, layers[0].config.lstm_dim
    bounds, splits, pads = _tables(graph, steps.counts, batch)
    body = graph.body("steps")
    step, going = body.input("step", np.int64, ()), body.input("going", np.bool_, ())
    before, ended = [], []
    for d in DIRECTIONS:
        h = body.input(f"h{d}", np.float32, (f"going{d}", P))
        before.append(State(h, body.input(f"c{d}", np.float32, (f"going{d}", C))))
        ended.append(body.input(f"ended{d}", np.float32, (f"gone{d}", C)))
    bound = body.op("Gather", bounds, step)
    first, end = body.ops("Split", bound, n_outputs=2, num_outputs=2)
    split, pad = body.op("Gather", splits, step), body.op("Gather", pads, step)
    body.output("still_going", going, np.bool_, ())
    shown = []
    for d, layer in enumerate(layers):
        rows = body.op("Slice", steps.rows[d], first, end, body.ints(0))
        after = layer.step(body, body.op("Gather", steps.products[d], rows), before[d])
        h, _ = body.ops("Split", after.h, split, n_outputs=2, axis=0)
        c, ending = body.ops("Split", after.c, split, n_outputs=2, axis=0)
        gone = body.op("Concat", ending, ended[d], axis=0)
        body.output(f"next_h{d}", h, np.float32, (f"next{d}", P))
        body.output(f"next_c{d}", c, np.float32, (f"next{d}", C))
        body.output(f"next_ended{d}", gone, np.float32, (f"next_gone{d}", C))
        shown.append(body.op("Pad", after.h, pad))
    for d in DIRECTIONS:
        body.output(f"y{d}", shown[d], np.float32, ("batch", P))
    return body.subgraph()


def _tables(graph: GraphBuilder, counts: Value, batch: Value) -> tuple[Value, Value, Value]:
    """What the loop looks up at a step t, by row.

    bounds (M, 2): its first packed row, and one past its last. splits (M, 2): sentences that
    go on after it, and those that end with it. pads (M, 4): what Pad adds to its rows.
    """
    starts = graph.op("CumSum", counts, graph.scalar(0, np.int64), exclusive=1)
    following = graph.op("Slice", counts, graph.ints(1), graph.size(counts, 0), graph.ints(0))
    following = graph.op("Concat", following, graph.ints(0), axis=0)
    ending = graph.op("Sub", counts, following)
    missing = graph.op("Sub", batch, counts)
    nothing = graph.op("Sub", counts, counts)
    ends = graph.op("Add", starts, counts)
    return (
        graph.stack([starts, ends], axis=1),
        graph.stack([following, ending], axis=1),
        graph.stack([nothing, nothing, missing, nothing], axis=1),
    )
