"""Layers of the biLM -> the outputs that users ask for: layers, mixes, pooled sentences, states."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from elmo_export.builder import GraphBuilder, Value
from elmo_export.cell import State
from elmo_runtime.config import ElmoConfig


@dataclass(frozen=True)
class BiLmRows:
    """What either form of the biLM computes, in its own order of rows.

    layers: for layers 0..n the vectors (rows, P) of both directions, the last row all zeros.
    places: (batch, length, 2) the rows of a token's forward and backward vector; past a
    sentence's length, the last row.
    """

    layers: Sequence[Value]
    places: Value
    states: Sequence[State]  # a layer: (2, batch, P) and (2, batch, C)


def write_outputs(
    graph: GraphBuilder, config: ElmoConfig, rows: BiLmRows, inputs: dict[str, Value]
) -> None:
    """Declare every output of docs/reference/graphs.md after `word_emb`."""
    axes = ("batch", "length")
    tokens = graph.op("Gather", rows.places, graph.scalar(0, np.int64), axis=2)
    word_emb = graph.op("Gather", rows.layers[0], tokens)
    graph.output("word_emb", word_emb, np.float32, (*axes, config.projection_dim))
    for name, layer in zip(config.layer_names, rows.layers[1:], strict=True):
        vectors = _place(graph, config, layer, rows.places)
        graph.output(name, vectors, np.float32, (*axes, config.output_dim))
    mixed = _mix(graph, rows.layers, inputs["mix_weights"], inputs["gamma"])
    elmo = _place(graph, config, mixed, rows.places, mixes=graph.size(inputs["gamma"], 0))
    graph.output("elmo", elmo, np.float32, ("mixes", *axes, config.output_dim))
    default = _pool(graph, elmo, inputs["lengths"])
    graph.output("default", default, np.float32, ("mixes", "batch", config.output_dim))
    sizes = (config.projection_dim, config.lstm_dim)
    for name, parts, size in zip(
        ("final_h", "final_c"), zip(*rows.states, strict=True), sizes, strict=True
    ):
        layers = [graph.op("Unsqueeze", part, graph.ints(0)) for part in parts]
        final = graph.op("Concat", *layers, axis=0)
        graph.output(name, final, np.float32, (config.n_layers, 2, "batch", size))


def _place(
    graph: GraphBuilder,
    config: ElmoConfig,
    rows: Value,
    places: Value,
    mixes: Value | None = None,
) -> Value:
    """(rows, P) or (mixes, rows, P) -> ([mixes,] batch, length, 2P)."""
    lead = [] if mixes is None else [mixes]
    pairs = graph.op("Gather", rows, places, axis=len(lead))
    batch, length = graph.size(places, 0), graph.size(places, 1)
    return graph.reshape(pairs, *lead, batch, length, config.output_dim)


def _mix(graph: GraphBuilder, layers: Sequence[Value], weights: Value, gamma: Value) -> Value:
    """Rows (rows, P) a layer -> (mixes, rows, P): gamma * sum_k softmax(w)_k layer_k."""
    shares = graph.op("Softmax", weights, axis=-1)
    shares = graph.op("Mul", shares, graph.op("Unsqueeze", gamma, graph.ints(1)))
    columns = graph.op("Unsqueeze", shares, graph.ints(2))  # (mixes, L+1, 1)
    total = ""
    for index, layer in enumerate(layers):
        share = graph.op("Gather", columns, graph.ints(index), axis=1)  # (mixes, 1, 1)
        term = graph.op("Mul", share, layer)
        total = graph.op("Add", total, term) if total else term
    return total


def _pool(graph: GraphBuilder, elmo: Value, lengths: Value) -> Value:
    """(mixes, batch, length, 2P) -> (mixes, batch, 2P): the mean over real tokens.

    Running sums, because they add in the order of time: ONNX Runtime's ReduceSum groups its terms
    by the padded length, so that padding would change the last bit.
    """
    running = graph.op("CumSum", elmo, graph.scalar(2, np.int64))
    total = graph.op("Gather", running, graph.scalar(-1, np.int64), axis=2)
    count = graph.op("Max", graph.cast(lengths, np.float32), graph.scalar(1.0))
    return graph.op("Div", total, graph.op("Unsqueeze", count, graph.ints(1)))
