"""Layers of the biLM -> outputs: token vectors, layers, mixes, sentence means and states."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from elmo_export.graphs.builder import GraphBuilder, Value
from elmo_export.graphs.lstm import LstmValues
from elmo_export.graphs.writer import Writer
from elmo_runtime.mixes import LAYER_NORM_EPSILON


@dataclass(frozen=True)
class BiLmRows:
    """What either form of the biLM computes, in its own order of rows.

    layers: the vectors (rows, P) of both directions for layers 0..n; the last row is all zeros.
    positions: (batch, length, 2) the rows of a token's forward and backward vector; past a
    sentence's length, the last row.
    """

    layers: Sequence[Value]
    positions: Value
    states: Sequence[LstmValues]  # per layer: (2, batch, P) and (2, batch, C)


def write_outputs(writer: Writer, rows: BiLmRows, inputs: Mapping[str, Value]) -> None:
    """Declare every output of docs/reference/graphs.md."""
    graph, config = writer.graph, writer.config
    axes = ("batch", "length")
    tokens = graph.op("Gather", rows.positions, graph.scalar(0, np.int64), axis=2)
    word_emb = graph.op("Gather", rows.layers[0], tokens)
    graph.output("word_emb", word_emb, np.float32, (*axes, config.projection_dim))
    layers = []
    for name, layer in zip(config.layer_names, rows.layers[1:], strict=True):
        layers.append(_by_token(writer, layer, rows.positions))
        graph.output(name, layers[-1], np.float32, (*axes, config.output_dim))
    if "layer_norm" in inputs:
        lowest = _by_token(writer, rows.layers[0], rows.positions)
        elmo = _mix_normalized(writer, [lowest, *layers], inputs)
    else:
        mixed = _mix(graph, rows.layers, inputs["mix_weights"], inputs["gamma"])
        elmo = _by_token(writer, mixed, rows.positions, mixes=graph.size(inputs["gamma"], 0))
    graph.output("elmo", elmo, np.float32, ("mixes", *axes, config.output_dim))
    default = _pool(graph, elmo, inputs["lengths"])
    graph.output("default", default, np.float32, ("mixes", "batch", config.output_dim))
    _write_states(writer, rows.states)


def _write_states(writer: Writer, states: Sequence[LstmValues]) -> None:
    graph, config = writer.graph, writer.config
    sizes = {"final_h": config.projection_dim, "final_c": config.lstm_dim}
    for (name, size), parts in zip(sizes.items(), zip(*states, strict=True), strict=True):
        layers = [graph.op("Unsqueeze", part, graph.ints(0)) for part in parts]
        final = graph.op("Concat", *layers, axis=0)
        graph.output(name, final, np.float32, (config.n_layers, 2, "batch", size))


def _by_token(writer: Writer, rows: Value, positions: Value, mixes: Value | None = None) -> Value:
    """(rows, P) or (mixes, rows, P) -> ([mixes,] batch, length, 2P)."""
    graph = writer.graph
    lead = [] if mixes is None else [mixes]
    pairs = graph.op("Gather", rows, positions, axis=len(lead))
    batch, length = graph.size(positions, 0), graph.size(positions, 1)
    return graph.reshape(pairs, *lead, batch, length, writer.config.output_dim)


def _mix(graph: GraphBuilder, layers: Sequence[Value], weights: Value, gamma: Value) -> Value:
    """Rows (rows, P) of each layer -> (mixes, rows, P): gamma * sum_k softmax(w)_k layer_k."""
    columns = graph.op("Unsqueeze", _shares(graph, weights, gamma), graph.ints(2))  # (.., L+1, 1)
    total = ""
    for index, layer in enumerate(layers):
        share = graph.op("Gather", columns, graph.ints(index), axis=1)  # (mixes, 1, 1)
        term = graph.op("Mul", share, layer)
        total = graph.op("Add", total, term) if total else term
    return total


def _shares(graph: GraphBuilder, weights: Value, gamma: Value) -> Value:
    """Factors (mixes, L+1) of the layers: gamma * softmax(w)."""
    shares = graph.op("Softmax", weights, axis=-1)
    return graph.op("Mul", shares, graph.op("Unsqueeze", gamma, graph.ints(1)))


def _mix_normalized(writer: Writer, layers: Sequence[Value], inputs: Mapping[str, Value]) -> Value:
    """Layers (batch, length, 2P) -> (mixes, batch, length, 2P).

    A mix with layer_norm 1 gets (layer - mean) / deviation per sentence, one with 0 gets the layer.
    """
    graph = writer.graph
    shares = _shares(graph, inputs["mix_weights"], inputs["gamma"])
    flags = graph.op("Unsqueeze", inputs["layer_norm"], graph.ints(1, 2, 3))  # (mixes, 1, 1, 1)
    lengths = graph.op("Unsqueeze", inputs["lengths"], graph.ints(1, 2))  # (batch, 1, 1)
    position = graph.op("Unsqueeze", graph.count(graph.size(layers[0], 1)), graph.ints(0, 2))
    real = graph.op("Less", position, graph.cast(lengths, np.int64))  # (batch, length, 1)
    width = graph.scalar(float(writer.config.output_dim))
    count = graph.op("Mul", graph.cast(lengths, np.float32), width)
    count = graph.op("Max", count, graph.scalar(1.0))
    total = ""
    for index, layer in enumerate(layers):
        mean, factor = _statistics(graph, layer, real, count)
        mean = graph.op("Mul", flags, mean)  # (mixes, batch, 1, 1), 0 without layer norm
        factor = graph.op("Where", graph.cast(flags, np.bool_), factor, graph.scalar(1.0))
        x = graph.op("Mul", graph.op("Sub", layer, mean), factor)
        share = graph.op("Gather", shares, graph.scalar(index, np.int64), axis=1)
        term = graph.op("Mul", graph.op("Unsqueeze", share, graph.ints(1, 2, 3)), x)
        total = graph.op("Add", total, term) if total else term
    return graph.op("Where", real, total, graph.scalar(0.0))


def _statistics(
    graph: GraphBuilder, layer: Value, real: Value, count: Value
) -> tuple[Value, Value]:
    """A layer (batch, length, 2P), 0 past each length -> mean and 1 / deviation (batch, 1, 1)."""
    mean = graph.op("Div", _sum(graph, layer), count)
    centered = graph.op("Where", real, graph.op("Sub", layer, mean), graph.scalar(0.0))
    variance = graph.op("Div", _sum(graph, graph.op("Mul", centered, centered)), count)
    variance = graph.op("Add", variance, graph.scalar(LAYER_NORM_EPSILON))
    return mean, graph.op("Reciprocal", graph.op("Sqrt", variance))


def _sum(graph: GraphBuilder, x: Value) -> Value:
    """(batch, length, 2P) -> (batch, 1, 1), summed in the order of time; see _pool."""
    tokens = graph.op("ReduceSum", x, graph.ints(2), keepdims=1)  # (batch, length, 1)
    running = graph.op("CumSum", tokens, graph.scalar(1, np.int64))
    return graph.op("Gather", running, graph.ints(-1), axis=1)


def _pool(graph: GraphBuilder, elmo: Value, lengths: Value) -> Value:
    """(mixes, batch, length, 2P) -> (mixes, batch, 2P): the mean over real tokens.

    Running sums add in the order of time. ONNX Runtime's ReduceSum groups its terms by the padded
    length, so that padding would change the last bit.
    """
    running = graph.op("CumSum", elmo, graph.scalar(2, np.int64))
    total = graph.op("Gather", running, graph.scalar(-1, np.int64), axis=2)
    count = graph.op("Max", graph.cast(lengths, np.float32), graph.scalar(1.0))
    return graph.op("Div", total, graph.op("Unsqueeze", count, graph.ints(1)))
