"""One bidirectional layer over packed rows: a Loop of stock operators."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import onnx

from elmo_export.graphs.builder import GraphBuilder, Value
from elmo_export.graphs.lstm import LstmLayer, LstmValues

DIRECTIONS = (0, 1)


@dataclass(frozen=True)
class Steps:
    """The inputs of a layer. Every pair is for the forward and the backward direction.

    N is the number of packed rows, M the padded length. Sentences are sorted by descending length.
    """

    products: Sequence[Value]  # (distinct inputs, 4C) x 2
    rows: Sequence[Value]  # (N,) x 2: the product of each packed row
    counts: Value  # (M,): rows per step, descending; the last may be 0
    h: Sequence[Value]  # (batch, P) x 2 before the first step
    c: Sequence[Value]  # (batch, C) x 2


def run_layer(
    graph: GraphBuilder, layers: Sequence[LstmLayer], steps: Steps
) -> tuple[list[Value], list[Value]]:
    """The outputs (N, P) of both directions, and the cells (batch, C) after each last step."""
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
    # The rows of a step are padded to the full batch, because Loop stacks only equal shapes.
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

    The state after a step holds only the sentences that continue. The cells of those that end are
    prepended to the cells that ended earlier, so that the result is in sorted order.
    """
    P, C = layers[0].config.projection_dim, layers[0].config.lstm_dim
    bounds, splits, pads = _tables(graph, steps.counts, batch)
    body = graph.body("steps")
    step, going = body.input("step", np.int64, ()), body.input("going", np.bool_, ())
    before, ended = [], []
    for d in DIRECTIONS:
        h = body.input(f"h{d}", np.float32, (f"going{d}", P))
        before.append(LstmValues(h, body.input(f"c{d}", np.float32, (f"going{d}", C))))
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
    """Three tables with one row per time step.

    bounds (M, 2): the first packed row, and one past the last. splits (M, 2): the number of
    sentences that continue, and of those that end. pads (M, 4): the padding of the rows.
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
