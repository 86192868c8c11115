"""The biLM as a Scan over padded time with both directions in one body: runs on any backend.

Its shape follows what TensorRT fuses well: input products of all steps in one GEMM outside the
loop, as many steps as the padded length, FP32 gates and clips beside the GEMMs.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from elmo_export.builder import GraphBuilder, Value
from elmo_export.cell import State, input_bias, layer_weight, lstm_step
from elmo_export.checkpoint import Checkpoint
from elmo_export.heads import BiLmRows
from elmo_export.precision import Fp32, Lane


@dataclass(frozen=True)
class _Grid:
    """Where things stand in padded time: sizes are vectors of one int64, M = marked_length."""

    batch: Value
    marked: Value
    lengths: Value  # (batch,) int64, sentence marks counted
    valid: Value  # (M, batch, 1) bool
    mirror: Value  # (M, batch) positions that reverse each sentence within its own length


def padded_bilm(
    graph: GraphBuilder, checkpoint: Checkpoint, precision: Fp32, inputs: dict[str, Value]
) -> BiLmRows:
    """The inputs of docs/graphs.md -> rows of all layers, time-major, forward then backward."""
    grid = _grid(graph, inputs["word_index"], inputs["lengths"])
    tokens = _tokens(graph, precision, grid, inputs)
    x = tokens
    layers, states = [tokens], []
    for depth in range(checkpoint.config.n_layers):
        y, state = _layer(graph, checkpoint, precision, grid, inputs, x, depth)
        states.append(state)
        if checkpoint.config.use_skip_connections and depth > 0:
            y = {lane: graph.op("Add", y[lane], x[lane]) for lane in y}
        layers.append(y)
        x = y
    rows = [_rows(graph, checkpoint, layer) for layer in layers]
    return BiLmRows(rows, _places(graph, grid, inputs["lengths"]), states)


def _grid(graph: GraphBuilder, word_index: Value, lengths: Value) -> _Grid:
    batch, marked = graph.size(word_index, 0), graph.size(word_index, 1)
    counted = graph.op("Add", graph.cast(lengths, np.int64), graph.ints(2))
    zero, one = graph.scalar(0, np.int64), graph.scalar(1, np.int64)
    step = graph.op("Range", zero, graph.op("Squeeze", marked), one)
    step = graph.op("Unsqueeze", step, graph.ints(1))  # (M, 1) against (batch,)
    valid = graph.op("Less", step, counted)
    mirrored = graph.op("Sub", graph.op("Sub", counted, graph.ints(1)), step)
    mirror = graph.op("Where", valid, mirrored, step)
    return _Grid(batch, marked, counted, graph.op("Unsqueeze", valid, graph.ints(2)), mirror)


def _tokens(
    graph: GraphBuilder, precision: Fp32, grid: _Grid, inputs: dict[str, Value]
) -> dict[Lane, Value]:
    """Token vectors (M, batch, P), or (2, M, batch, P), each direction in its own order."""
    forward = graph.op("Transpose", graph.cast(inputs["word_index"], np.int64), perm=[1, 0])
    orders = (forward, graph.op("GatherElements", forward, grid.mirror, axis=0))
    tokens = {}
    for lane in precision.lanes:
        order = orders[lane[0]] if len(lane) == 1 else _stack(graph, orders)
        tokens[lane] = graph.op("Gather", inputs["word_vectors"], order)
    return tokens


def _layer(
    graph: GraphBuilder,
    checkpoint: Checkpoint,
    precision: Fp32,
    grid: _Grid,
    inputs: dict[str, Value],
    x: dict[Lane, Value],
    depth: int,
) -> tuple[dict[Lane, Value], State]:
    """Inputs of one layer, by lane -> its outputs and the states after each last step."""
    lanes = precision.lanes
    products = [
        _products(graph, checkpoint, precision, grid, x[lane], lane, depth) for lane in lanes
    ]
    initial = [
        _initial(graph, inputs[name], lane, depth)
        for lane in lanes
        for name in ("initial_h", "initial_c")
    ]
    body = _body(graph, checkpoint, precision, depth)
    scanned = graph.ops(
        "Scan",
        *initial,
        grid.valid,
        *products,
        n_outputs=3 * len(lanes),
        body=body,
        num_scan_inputs=1 + len(lanes),
        scan_input_axes=[0] + [len(lane) - 1 for lane in lanes],
        scan_output_axes=[len(lane) - 1 for lane in lanes],
    )
    cells, outputs = scanned[1 : 2 * len(lanes) : 2], scanned[2 * len(lanes) :]
    y = dict(zip(lanes, outputs, strict=True))
    last = [_last(graph, checkpoint, grid, output, lane) for lane, output in y.items()]
    return y, State(_join(graph, lanes, last), _join(graph, lanes, list(cells)))


def _products(
    graph: GraphBuilder,
    checkpoint: Checkpoint,
    precision: Fp32,
    grid: _Grid,
    x: Value,
    lane: Lane,
    depth: int,
) -> Value:
    """Products x Wx + b of all steps in one GEMM: (..., M, batch, P) -> (..., M, batch, 4C)."""
    lead = _lead(lane)
    rows = graph.reshape(x, *lead, -1, checkpoint.config.projection_dim)
    weight = layer_weight(checkpoint, lane, depth, "input_weight")
    bias = input_bias(graph, checkpoint, lane, depth)
    products = precision.product(graph, rows, weight, bias)
    return graph.reshape(products, *lead, grid.marked, grid.batch, 4 * checkpoint.config.lstm_dim)


def _body(graph: GraphBuilder, checkpoint: Checkpoint, precision: Fp32, depth: int) -> object:
    """One time step of every lane.

    Past a sentence's length c stands still. h need not: c no longer follows it, and the final h
    is read from the outputs.
    """
    P, C = checkpoint.config.projection_dim, checkpoint.config.lstm_dim
    body = graph.body(f"layer{depth}")
    lanes = precision.lanes
    before = [
        State(
            body.input(f"h{n}", np.float32, (*_lead(lane), "batch", P)),
            body.input(f"c{n}", np.float32, (*_lead(lane), "batch", C)),
        )
        for n, lane in enumerate(lanes)
    ]
    valid = body.input("valid", np.bool_, ("batch", 1))
    products = [
        body.input(f"product{n}", np.float32, (*_lead(lane), "batch", 4 * C))
        for n, lane in enumerate(lanes)
    ]
    shown = []
    for n, lane in enumerate(lanes):
        after = lstm_step(
            body, checkpoint, precision, products[n], before[n], lane=lane, depth=depth
        )
        c = body.op("Where", valid, after.c, before[n].c)
        body.output(f"next_h{n}", after.h, np.float32, (*_lead(lane), "batch", P))
        body.output(f"next_c{n}", c, np.float32, (*_lead(lane), "batch", C))
        shown.append(after.h)
    for n, lane in enumerate(lanes):
        body.output(f"y{n}", shown[n], np.float32, (*_lead(lane), "batch", P))
    return body.subgraph()


def _initial(graph: GraphBuilder, states: Value, lane: Lane, depth: int) -> Value:
    """(L, 2, batch, D) -> (batch, D) of one direction or (2, batch, D) of both."""
    layer = graph.op("Gather", states, graph.scalar(depth, np.int64))
    return graph.op("Gather", layer, graph.scalar(lane[0], np.int64)) if len(lane) == 1 else layer


def _last(graph: GraphBuilder, checkpoint: Checkpoint, grid: _Grid, y: Value, lane: Lane) -> Value:
    """Outputs of all steps -> the one of each sentence's last step."""
    rows = graph.reshape(y, *_lead(lane), -1, checkpoint.config.projection_dim)
    step = graph.op("Sub", grid.lengths, graph.ints(1))
    row = graph.op("Add", graph.op("Mul", step, grid.batch), _numbers(graph, grid.batch))
    return graph.op("Gather", rows, row, axis=len(lane) - 1)


def _rows(graph: GraphBuilder, checkpoint: Checkpoint, layer: dict[Lane, Value]) -> Value:
    """(M, batch, P) by lane -> (2 * M * batch + 1, P), the last row zero."""
    P = checkpoint.config.projection_dim
    zero = graph.initializer("zero_row", np.zeros((1, P), np.float32))
    return graph.op("Concat", *(graph.reshape(y, -1, P) for y in layer.values()), zero, axis=0)


def _places(graph: GraphBuilder, grid: _Grid, lengths: Value) -> Value:
    """(batch, length, 2): token t is step t + 1 forward and step `its length` - t backward."""
    zero, one = graph.scalar(0, np.int64), graph.scalar(1, np.int64)
    length = graph.op("Squeeze", graph.op("Sub", grid.marked, graph.ints(2)))
    token = graph.op("Unsqueeze", graph.op("Range", zero, length, one), graph.ints(0))
    real = graph.op("Unsqueeze", graph.cast(lengths, np.int64), graph.ints(1))  # (batch, 1)
    sentence = graph.op("Unsqueeze", _numbers(graph, grid.batch), graph.ints(1))
    last = graph.op("Mul", graph.ints(2), graph.op("Mul", grid.marked, grid.batch))
    steps = (
        graph.op("Add", token, one),
        graph.op("Add", graph.op("Sub", real, token), grid.marked),
    )
    inside = graph.op("Less", token, real)
    rows = [
        graph.op(
            "Where", inside, graph.op("Add", graph.op("Mul", step, grid.batch), sentence), last
        )
        for step in steps
    ]
    return _stack(graph, rows, axis=2)


def _numbers(graph: GraphBuilder, size: Value) -> Value:
    """0, 1, ... size - 1."""
    zero, one = graph.scalar(0, np.int64), graph.scalar(1, np.int64)
    return graph.op("Range", zero, graph.op("Squeeze", size), one)


def _join(graph: GraphBuilder, lanes: tuple[Lane, ...], values: list[Value]) -> Value:
    """States by lane -> (2, batch, D)."""
    return values[0] if len(lanes) == 1 else _stack(graph, values)


def _stack(graph: GraphBuilder, values: tuple[Value, ...] | list[Value], axis: int = 0) -> Value:
    parts = [graph.op("Unsqueeze", value, graph.ints(axis)) for value in values]
    return graph.op("Concat", *parts, axis=axis)


def _lead(lane: Lane) -> tuple[int, ...]:
    """The leading axis of values that hold both directions."""
    return () if len(lane) == 1 else (2,)
