"""Checkpoint -> the ONNX graphs of a bundle; docs/reference/graphs.md defines their interface."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx

from elmo_export.checkpoint import Checkpoint
from elmo_export.graphs.bilm import Form, Inputs, write_bilm
from elmo_export.graphs.builder import GraphBuilder, Value
from elmo_export.graphs.outputs import write_outputs
from elmo_export.graphs.packed import PackedForm
from elmo_export.graphs.padded import PaddedForm
from elmo_export.graphs.token_encoder import encode_words
from elmo_export.graphs.weight_formats import FP32, WeightFormat
from elmo_export.graphs.writer import Writer
from elmo_runtime.characters import BEGIN_SENTENCE, END_SENTENCE, boundary_row
from elmo_runtime.config import ElmoConfig
from elmo_runtime.mixes import uses_layer_norm

FORMS: dict[str, Callable[[Writer, Inputs], Form]] = {"padded": PaddedForm, "packed": PackedForm}


def build_token_encoder(
    checkpoint: Checkpoint, *, weight_format: WeightFormat = FP32
) -> onnx.ModelProto:
    """char_ids (words, characters) -> word_vectors (words, P)."""
    graph = GraphBuilder("token_encoder")
    char_ids = graph.input("char_ids", np.int32, ("words", "characters"))
    vectors = encode_words(Writer(graph, checkpoint, weight_format), char_ids)
    P = checkpoint.config.projection_dim
    graph.output("word_vectors", vectors, np.float32, ("words", P))
    return graph.model()


def build_bilm(
    checkpoint: Checkpoint, *, form: str = "padded", weight_format: WeightFormat = FP32
) -> onnx.ModelProto:
    """word_vectors, word_index, lengths, mixes and states -> every output and the final states."""
    graph = GraphBuilder(f"bilm_{form}")
    writer, P = Writer(graph, checkpoint, weight_format), checkpoint.config.projection_dim
    inputs = {
        "word_vectors": graph.input("word_vectors", np.float32, ("words", P)),
        "word_index": graph.input("word_index", np.int32, ("batch", "marked_length")),
    } | _shared_inputs(graph, checkpoint)
    write_outputs(writer, write_bilm(writer, inputs, FORMS[form]), inputs)
    return graph.model()


def build_joined(
    checkpoint: Checkpoint, *, form: str = "padded", weight_format: WeightFormat = FP32
) -> onnx.ModelProto:
    """char_ids (batch, length, max characters) and the rest of `build_bilm` -> every output."""
    config = checkpoint.config
    graph = GraphBuilder(f"joined_{form}")
    writer, characters = Writer(graph, checkpoint, weight_format), config.max_characters_per_token
    char_ids = graph.input("char_ids", np.int32, ("batch", "length", characters))
    inputs = _shared_inputs(graph, checkpoint)
    tokens = graph.reshape(char_ids, -1, characters)
    rows = graph.op("Concat", tokens, _boundary_tokens(graph, config), axis=0)
    inputs["word_vectors"] = encode_words(writer, rows)
    inputs["word_index"] = _word_index(graph, char_ids, inputs["lengths"])
    write_outputs(writer, write_bilm(writer, inputs, FORMS[form]), inputs)
    return graph.model()


def _boundary_tokens(graph: GraphBuilder, config: ElmoConfig) -> Value:
    """The character ids (2, max characters) of `<S>` and `</S>`."""
    rows = [
        boundary_row(mark, config.max_characters_per_token)
        for mark in (BEGIN_SENTENCE, END_SENTENCE)
    ]
    return graph.initializer("sentence_marks", np.stack(rows))


def _word_index(graph: GraphBuilder, char_ids: Value, lengths: Value) -> Value:
    """(batch, length + 2) numbers of words: `<S>`, the sentence's tokens, `</S>`, then 0.

    Words are numbered along the batch; the two boundary tokens come last.
    """
    zero, one = graph.scalar(0, np.int64), graph.scalar(1, np.int64)
    batch, length = (graph.op("Squeeze", graph.size(char_ids, axis)) for axis in (0, 1))
    position = graph.op("Range", graph.scalar(-1, np.int64), graph.op("Add", length, one), one)
    sentence = graph.op("Unsqueeze", graph.op("Range", zero, batch, one), graph.ints(1))
    begin = graph.op("Mul", batch, length)
    end = graph.op("Unsqueeze", graph.cast(lengths, np.int64), graph.ints(1))
    token = graph.op("Add", graph.op("Mul", sentence, length), position)
    tail = graph.op("Where", graph.op("Equal", position, end), graph.op("Add", begin, one), zero)
    index = graph.op("Where", graph.op("Less", position, end), token, tail)
    return graph.op("Where", graph.op("Less", position, zero), begin, index)


def _shared_inputs(graph: GraphBuilder, checkpoint: Checkpoint) -> dict[str, Value]:
    """The inputs of both biLM graphs; `layer_norm` exists only for a model that uses it."""
    config = checkpoint.config
    L, P, C = config.n_layers, config.projection_dim, config.lstm_dim
    inputs = {
        "lengths": graph.input("lengths", np.int32, ("batch",)),
        "mix_weights": graph.input("mix_weights", np.float32, ("mixes", L + 1)),
        "gamma": graph.input("gamma", np.float32, ("mixes",)),
    }
    if uses_layer_norm(checkpoint.mixes):
        inputs["layer_norm"] = graph.input("layer_norm", np.float32, ("mixes",))
    return inputs | {
        "initial_h": graph.input("initial_h", np.float32, (L, 2, "batch", P)),
        "initial_c": graph.input("initial_c", np.float32, (L, 2, "batch", C)),
    }
