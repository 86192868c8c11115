"""Characters of words -> their context-independent vectors, as nodes of a graph."""

from __future__ import annotations

import numpy as np

from elmo_export.checkpoint import Checkpoint
from elmo_export.graphs.builder import GraphBuilder, Value
from elmo_export.graphs.weight_formats import Fp32, Weight


def encode_words(
    graph: GraphBuilder, checkpoint: Checkpoint, precision: Fp32, char_ids: Value
) -> Value:
    """(words, characters) shifted ids -> (words, P)."""
    x = _convolve(graph, checkpoint, precision, _embed(graph, checkpoint, char_ids))
    for index in range(checkpoint.config.n_highway):
        x = _highway(graph, checkpoint, precision, x, f"char_cnn.highways.{index}")
    return _linear(graph, checkpoint, precision, x, "char_cnn.projection")


def _embed(graph: GraphBuilder, checkpoint: Checkpoint, char_ids: Value) -> Value:
    """(words, characters) -> (words, d, 1, characters)."""
    name = "char_cnn.embedding"
    dim = checkpoint.config.char_embedding_dim
    nothing = graph.initializer("char_cnn.no_character", np.zeros((1, dim), np.float32))
    rows = graph.initializer(name, checkpoint.tensors[name])
    vectors = graph.op("Gather", graph.op("Concat", nothing, rows, axis=0), char_ids)
    return graph.op("Unsqueeze", graph.op("Transpose", vectors, perm=[0, 2, 1]), graph.ints(2))


def _convolve(graph: GraphBuilder, checkpoint: Checkpoint, precision: Fp32, x: Value) -> Value:
    """(words, d, 1, characters) -> (words, F): the maximum over positions, then the activation."""
    maxima = []
    for index in range(len(checkpoint.config.filters)):
        name = f"char_cnn.convolutions.{index}"
        weight = checkpoint.tensors[f"{name}.weight"][:, :, None]
        bias = checkpoint.tensors[f"{name}.bias"]
        y = precision.strongest(
            graph, x, Weight(f"{name}.weight", weight), Weight(f"{name}.bias", bias)
        )
        maxima.append(y)
    features = graph.op("Concat", *maxima, axis=1) if len(maxima) > 1 else maxima[0]
    activation = {"relu": "Relu", "tanh": "Tanh"}[checkpoint.config.activation]
    return graph.op(activation, graph.reshape(features, -1, checkpoint.config.n_filters))


def _highway(
    graph: GraphBuilder, checkpoint: Checkpoint, precision: Fp32, x: Value, name: str
) -> Value:
    """Gives x + gate * (relu(transform) - x), which is gate * relu(transform) + (1 - gate) * x."""
    transform = graph.op("Relu", _linear(graph, checkpoint, precision, x, f"{name}.transform"))
    gate = graph.op("Sigmoid", _linear(graph, checkpoint, precision, x, f"{name}.gate"))
    return graph.op("Add", x, graph.op("Mul", gate, graph.op("Sub", transform, x)))


def _linear(
    graph: GraphBuilder, checkpoint: Checkpoint, precision: Fp32, x: Value, name: str
) -> Value:
    weight = Weight(f"{name}.weight", checkpoint.tensors[f"{name}.weight"], transposed=True)
    bias = graph.initializer(f"{name}.bias", checkpoint.tensors[f"{name}.bias"])
    return precision.product(graph, x, weight, bias)
