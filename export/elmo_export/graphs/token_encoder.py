"""Characters of words -> their context-independent vectors, as nodes of a graph."""

from __future__ import annotations

from elmo_export.graphs.builder import Value
from elmo_export.graphs.writer import Writer


def encode_words(writer: Writer, char_ids: Value) -> Value:
    """(words, characters) shifted ids -> (words, P)."""
    x = _convolve(writer, _embed(writer, char_ids))
    for index in range(writer.config.n_highway):
        x = _highway(writer, f"char_cnn.highways.{index}", x)
    return writer.linear("char_cnn.projection", x)


def _embed(writer: Writer, char_ids: Value) -> Value:
    """(words, characters) -> (words, d, 1, characters)."""
    graph = writer.graph
    vectors = writer.embed("char_cnn.embedding", char_ids)
    return graph.op("Unsqueeze", graph.op("Transpose", vectors, perm=[0, 2, 1]), graph.ints(2))


def _convolve(writer: Writer, x: Value) -> Value:
    """(words, d, 1, characters) -> (words, F): the maximum over positions, then the activation."""
    graph, config = writer.graph, writer.config
    maxima = [
        writer.convolve(f"char_cnn.convolutions.{index}", x) for index in range(len(config.filters))
    ]
    features = graph.op("Concat", *maxima, axis=1) if len(maxima) > 1 else maxima[0]
    activation = {"relu": "Relu", "tanh": "Tanh"}[config.activation]
    return graph.op(activation, graph.reshape(features, -1, config.n_filters))


def _highway(writer: Writer, name: str, x: Value) -> Value:
    """(words, F) -> (words, F): gate * relu(transform) + (1 - gate) * x.

    It is written as x + gate * (relu(transform) - x), which needs one operation less.
    """
    graph = writer.graph
    transform = graph.op("Relu", writer.linear(f"{name}.transform", x))
    gate = graph.op("Sigmoid", writer.linear(f"{name}.gate", x))
    return graph.op("Add", x, graph.op("Mul", gate, graph.op("Sub", transform, x)))
