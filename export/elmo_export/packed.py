"""The biLM over packed rows: padding is never computed. For CPUs; the plain interface outside.

Sentences are sorted by falling length, so that time step t runs on the first n_t of them. A
packed row is one (step, sentence); rows are ordered by step, then by sentence, as in torch's
PackedSequence. The backward direction packs its own reversed order, which has the same n_t.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import onnx

from elmo_export.builder import GraphBuilder, Value
from elmo_export.cell import State, input_bias, layer_weight, lstm_step
from elmo_export.checkpoint import Checkpoint
from elmo_export.heads import BiLmRows
from elmo_export.precision import Fp32


@dataclass(frozen=True)
class _Packing:
    """All int64. `steps` is the longest marked length S; N counts the packed rows."""

    batch: Value  # (1,)
    steps: Value  # scalar
    lengths: Value  # (batch,) marked lengths in the caller's order
    order: Value  # (batch,) the caller's number of each sorted sentence
    rank: Value  # (batch,) the inverse: the sorted number of each of the caller's sentences
    starts: Value  # (M,) first packed row of each step
    bounds: Value  # (S, 2) first packed row of each step and one past its last
    splits: Value  # (S, 2) sentences that go on after each step, and those that end with it
    pads: Value  # (S, 4) what Pad adds to a step's rows to make a full batch
    words: tuple[Value, Value]  # (N,) row of word_vectors, in each direction's order
    full: Value  # (N,) rows of steps padded to the full batch, S * batch, that are real


def packed_bilm(
    graph: GraphBuilder, checkpoint: Checkpoint, precision: Fp32, inputs: dict[str, Value]
) -> BiLmRows:
    """The inputs of docs/graphs.md -> packed rows of all layers, forward then backward."""
    packing = _pack(graph, inputs["word_index"], inputs["lengths"])
    x = [graph.op("Gather", inputs["word_vectors"], words) for words in packing.words]
    layers, states = [x], []
    for depth in range(checkpoint.config.n_layers):
        y, state = _layer(graph, checkpoint, precision, packing, inputs, x, depth)
        states.append(state)
        if checkpoint.config.use_skip_connections and depth > 0:
            y = [graph.op("Add", *pair) for pair in zip(y, x, strict=True)]
        layers.append(y)
        x = y
    zero = graph.initializer(
        "zero_row", np.zeros((1, checkpoint.config.projection_dim), np.float32)
    )
    rows = [graph.op("Concat", *layer, zero, axis=0) for layer in layers]
    places = _places(graph, packing, inputs["word_index"], inputs["lengths"])
    return BiLmRows(rows, places, states)


def _pack(graph: GraphBuilder, word_index: Value, lengths: Value) -> _Packing:
    zero, one = graph.scalar(0, np.int64), graph.scalar(1, np.int64)
    batch, marked = graph.size(word_index, 0), graph.size(word_index, 1)
    counted = graph.op("Add", graph.cast(lengths, np.int64), graph.ints(2))
    sorted_lengths, order = graph.ops("TopK", counted, batch, n_outputs=2, axis=0)
    rank = graph.ops("TopK", order, batch, n_outputs=2, axis=0, largest=0)[1]
    step = graph.op("Range", zero, graph.op("Squeeze", marked), one)
    running = graph.op("Less", graph.op("Unsqueeze", step, graph.ints(1)), sorted_lengths)
    counts = graph.op("ReduceSum", graph.cast(running, np.int64), graph.ints(1), keepdims=0)
    starts = graph.op("CumSum", counts, zero, exclusive=1)
    steps = graph.op("ReduceMax", sorted_lengths, graph.ints(0), keepdims=0)
    bounds, splits, pads = _by_step(graph, batch, steps, counts, starts)
    step_of, rank_of = graph.ops(
        "Split", graph.op("NonZero", running), n_outputs=2, axis=0, num_outputs=2
    )
    step_of, rank_of = graph.reshape(step_of, -1), graph.reshape(rank_of, -1)
    ending = graph.op("Sub", graph.op("Gather", sorted_lengths, rank_of), one)
    sentence = graph.op("Mul", graph.op("Gather", order, rank_of), marked)
    flat = graph.reshape(word_index, -1)
    words = tuple(
        graph.op("Gather", flat, graph.op("Add", sentence, position))
        for position in (step_of, graph.op("Sub", ending, step_of))
    )
    full = graph.op("Add", graph.op("Mul", step_of, batch), rank_of)
    return _Packing(
        batch, steps, counted, order, rank, starts, bounds, splits, pads, (words[0], words[1]), full
    )


def _by_step(
    graph: GraphBuilder, batch: Value, steps: Value, counts: Value, starts: Value
) -> tuple[Value, Value, Value]:
    """The tables that the loop looks up once a step: bounds, splits and pads."""
    end = graph.op("Unsqueeze", steps, graph.ints(0))
    begin = graph.ints(0)
    now = graph.op("Slice", counts, begin, end, begin)
    start = graph.op("Slice", starts, begin, end, begin)
    following = graph.op("Concat", graph.op("Slice", now, graph.ints(1), end, begin), begin, axis=0)
    nothing = graph.op("Sub", now, now)
    bounds = (start, graph.op("Add", start, now))
    splits = (following, graph.op("Sub", now, following))
    pads = (nothing, nothing, graph.op("Sub", batch, now), nothing)
    return tuple(_columns(graph, columns) for columns in (bounds, splits, pads))  # type: ignore


def _layer(
    graph: GraphBuilder,
    checkpoint: Checkpoint,
    precision: Fp32,
    packing: _Packing,
    inputs: dict[str, Value],
    x: list[Value],
    depth: int,
) -> tuple[list[Value], State]:
    """Packed inputs (N, P) of both directions -> packed outputs, and the final states."""
    P = checkpoint.config.projection_dim
    products = [
        precision.product(
            graph,
            x[d],
            layer_weight(checkpoint, (d,), depth, "input_weight"),
            input_bias(graph, checkpoint, (d,), depth),
        )
        for d in (0, 1)
    ]
    carried = [
        value
        for d in (0, 1)
        for value in (
            _initial(graph, packing, inputs["initial_h"], depth, d),
            _initial(graph, packing, inputs["initial_c"], depth, d),
            graph.initializer("no_cells", np.zeros((0, checkpoint.config.lstm_dim), np.float32)),
        )
    ]
    body = _body(graph, checkpoint, precision, packing, products, depth)
    always = graph.initializer("true", np.array(True))
    looped = graph.ops("Loop", packing.steps, always, *carried, n_outputs=8, body=body)
    outputs = [
        graph.op("Gather", graph.reshape(stacked, -1, P), packing.full) for stacked in looped[6:]
    ]
    last = graph.op("Gather", packing.starts, graph.op("Sub", packing.lengths, graph.ints(1)))
    last = graph.op("Add", last, packing.rank)
    h = [graph.op("Gather", y, last) for y in outputs]
    c = [graph.op("Gather", ended, packing.rank) for ended in (looped[2], looped[5])]
    return outputs, State(_stack(graph, h), _stack(graph, c))


def _body(
    graph: GraphBuilder,
    checkpoint: Checkpoint,
    precision: Fp32,
    packing: _Packing,
    products: list[Value],
    depth: int,
) -> onnx.GraphProto:
    """One time step of both directions.

    The states that a step leaves shrink to the sentences that go on; cells of those that end are
    put before the ones that ended earlier, which makes the final cells in sorted order.
    """
    P, C = checkpoint.config.projection_dim, checkpoint.config.lstm_dim
    body = graph.body(f"layer{depth}")
    step = body.input("step", np.int64, ())
    going = body.input("going", np.bool_, ())
    first, last = body.ops(
        "Split", body.op("Gather", packing.bounds, step), n_outputs=2, num_outputs=2
    )
    split = body.op("Gather", packing.splits, step)
    pad = body.op("Gather", packing.pads, step)
    before, ended = [], []
    for d in (0, 1):
        before.append(
            State(
                body.input(f"h{d}", np.float32, (f"going{d}", P)),
                body.input(f"c{d}", np.float32, (f"going{d}", C)),
            )
        )
        ended.append(body.input(f"ended{d}", np.float32, (f"gone{d}", C)))
    body.output("still_going", going, np.bool_, ())
    shown = []
    for d in (0, 1):
        product = body.op("Slice", products[d], first, last, body.ints(0))
        after = lstm_step(body, checkpoint, precision, product, before[d], lane=(d,), depth=depth)
        h, _ = body.ops("Split", after.h, split, n_outputs=2, axis=0)
        c, ending = body.ops("Split", after.c, split, n_outputs=2, axis=0)
        done = body.op("Concat", ending, ended[d], axis=0)
        body.output(f"next_h{d}", h, np.float32, (f"next{d}", P))
        body.output(f"next_c{d}", c, np.float32, (f"next{d}", C))
        body.output(f"next_ended{d}", done, np.float32, (f"next_gone{d}", C))
        shown.append(body.op("Pad", after.h, pad))
    for d in (0, 1):
        body.output(f"y{d}", shown[d], np.float32, ("batch", P))
    return body.subgraph()


def _initial(
    graph: GraphBuilder, packing: _Packing, states: Value, depth: int, direction: int
) -> Value:
    """(L, 2, batch, D) -> (batch, D) of one layer and direction, in sorted order."""
    layer = graph.op("Gather", states, graph.scalar(depth, np.int64))
    one = graph.op("Gather", layer, graph.scalar(direction, np.int64))
    return graph.op("Gather", one, packing.order)


def _places(graph: GraphBuilder, packing: _Packing, word_index: Value, lengths: Value) -> Value:
    """(batch, length, 2): token t is step t + 1 forward and step `its length` - t backward."""
    zero, one = graph.scalar(0, np.int64), graph.scalar(1, np.int64)
    width = graph.op("Squeeze", graph.op("Sub", graph.size(word_index, 1), graph.ints(2)))
    token = graph.op("Unsqueeze", graph.op("Range", zero, width, one), graph.ints(0))
    real = graph.op("Unsqueeze", graph.cast(lengths, np.int64), graph.ints(1))  # (batch, 1)
    rank = graph.op("Unsqueeze", packing.rank, graph.ints(1))
    n_rows = graph.size(packing.full, 0)
    inside = graph.op("Less", token, real)
    forward = graph.op("Add", graph.op("Gather", packing.starts, graph.op("Add", token, one)), rank)
    step = graph.op("Max", graph.op("Sub", real, token), zero)
    backward = graph.op("Add", graph.op("Gather", packing.starts, step), rank)
    backward = graph.op("Add", backward, n_rows)
    last = graph.op("Mul", n_rows, graph.ints(2))
    rows = [graph.op("Where", inside, row, last) for row in (forward, backward)]
    return _columns(graph, rows, axis=2)


def _columns(graph: GraphBuilder, columns: Iterable[Value], axis: int = 1) -> Value:
    parts = [graph.op("Unsqueeze", column, graph.ints(axis)) for column in columns]
    return graph.op("Concat", *parts, axis=axis)


def _stack(graph: GraphBuilder, values: list[Value]) -> Value:
    return _columns(graph, values, axis=0)
