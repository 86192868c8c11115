"""A sentence encoder of MiniLM-L6's size in ONNX Runtime: what a user may choose instead of ELMo.

The weights are random, which takes the same time. Tokenization is a hash that gives 1.3 word pieces
per word on average, so the system measures the network and not a tokenizer. The graph is plain
ONNX, with the operators that exports of BERT have after ONNX Runtime's fusions.
"""

from __future__ import annotations

import importlib
import logging
import tempfile
import time
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from elmo_deploy.benchmark.loads import Sentence
from elmo_deploy.benchmark.subject import Subject
from elmo_export.graphs.builder import GraphBuilder, Value
from elmo_runtime.backends.onnxruntime.installation import import_onnxruntime
from elmo_runtime.errors import BackendUnavailableError

# The sizes of sentence-transformers/all-MiniLM-L6-v2.
LAYERS, WIDTH, HEADS, INNER = 6, 384, 12, 1536
VOCABULARY, POSITIONS = 30_522, 512
CLS, SEP, FIRST_PIECE = 101, 102, 1000
WORDS_OF_TWO_PIECES = 0.3  # gives 1.3 pieces per word
HIDDEN = -1e9  # the score of a padded position before the softmax


class TransformerRunner:
    """A session of the encoder, from sentences to the vectors of their pieces."""

    def __init__(self, session: Any) -> None:
        self.session = session

    def embed(self, sentences: Sequence[Sentence]) -> NDArray[np.float32]:
        """(batch, pieces, 384)."""
        return self.run(*piece_ids(sentences))

    def run(self, ids: NDArray[np.int64], mask: NDArray[np.int64]) -> NDArray[np.float32]:
        """Ids and mask, both (batch, pieces) -> (batch, pieces, 384)."""
        vectors: NDArray[np.float32]
        (vectors,) = self.session.run(None, {"input_ids": ids, "attention_mask": mask})
        return vectors

    def stages(self, sentences: Sequence[Sentence]) -> dict[str, float]:
        """Seconds of the ids and of the graph, which cannot be divided."""
        start = time.perf_counter()
        ids, mask = piece_ids(sentences)
        prepared = time.perf_counter()
        self.run(ids, mask)
        return {"characters": prepared - start, "whole graph": time.perf_counter() - prepared}


def word_pieces(word: str) -> list[int]:
    """The ids of one or two pieces, always the same for a word."""
    number = zlib.crc32(word.encode("utf-8"))
    first = FIRST_PIECE + number % (VOCABULARY - FIRST_PIECE)
    is_long = number / 2**32 < WORDS_OF_TWO_PIECES
    return [first, FIRST_PIECE + number % 997] if is_long else [first]


def piece_ids(sentences: Sequence[Sentence]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Tokens -> ids and mask, both (batch, pieces), with [CLS], [SEP] and at most 512 pieces."""
    rows = [[piece for word in words for piece in word_pieces(word)] for words in sentences]
    rows = [[CLS, *row[: POSITIONS - 2], SEP] for row in rows]
    ids = np.zeros((len(rows), max(map(len, rows))), np.int64)
    mask = np.zeros_like(ids)
    for number, row in enumerate(rows):
        ids[number, : len(row)], mask[number, : len(row)] = row, 1
    return ids, mask


def build_transformer() -> Any:
    """input_ids and attention_mask (batch, pieces) -> last_hidden_state (batch, pieces, 384)."""
    graph = GraphBuilder("transformer")
    weight = _random_weights(graph)
    ids = graph.input("input_ids", np.int64, ("batch", "pieces"))
    mask = graph.input("attention_mask", np.int64, ("batch", "pieces"))
    words = graph.op("Gather", weight("words", VOCABULARY, WIDTH), ids)
    positions = weight("positions", POSITIONS, WIDTH)
    place = graph.op("Slice", positions, graph.ints(0), graph.size(ids, 1), graph.ints(0))
    x = _layer_norm(graph, graph.op("Add", words, place))
    padded = graph.op("Sub", graph.scalar(1.0), graph.cast(mask, np.float32))
    bias = graph.op("Mul", graph.op("Unsqueeze", padded, graph.ints(1, 2)), graph.scalar(HIDDEN))
    for layer in range(LAYERS):
        attended = _attention(graph, weight, f"layer{layer}", x, bias)
        x = _layer_norm(graph, graph.op("Add", x, attended))
        inner = graph.op("Gelu", _linear(graph, weight, f"layer{layer}/in", x, WIDTH, INNER))
        out = _linear(graph, weight, f"layer{layer}/out", inner, INNER, WIDTH)
        x = _layer_norm(graph, graph.op("Add", x, out))
    graph.output("last_hidden_state", x, np.float32, ("batch", "pieces", WIDTH))
    return graph.model()


Weight = Callable[..., Value]


def _random_weights(graph: GraphBuilder) -> Weight:
    """Return a function (name, *shape) -> a random weight of the graph."""
    generator = np.random.default_rng(0)

    def weight(name: str, *shape: int) -> Value:
        array = generator.standard_normal(shape, np.float32) * np.float32(shape[0] ** -0.5)
        return graph.initializer(name, array)

    return weight


def _linear(
    graph: GraphBuilder, weight: Weight, name: str, x: Value, inputs: int, outputs: int
) -> Value:
    """(..., inputs) -> (..., outputs)."""
    product = graph.op("MatMul", x, weight(f"{name}/weight", inputs, outputs))
    return graph.op("Add", product, weight(f"{name}/bias", outputs))


def _layer_norm(graph: GraphBuilder, x: Value) -> Value:
    one = graph.initializer("norm/scale", np.ones(WIDTH, np.float32))
    zero = graph.initializer("norm/bias", np.zeros(WIDTH, np.float32))
    return graph.op("LayerNormalization", x, one, zero, axis=-1, epsilon=1e-12)


def _attention(graph: GraphBuilder, weight: Weight, name: str, x: Value, bias: Value) -> Value:
    """softmax(q k^T / sqrt(d) + bias) v for every head: (batch, pieces, 384) -> the same."""
    batch, pieces = graph.size(x, 0), graph.size(x, 1)

    def heads(part: str, *order: int) -> Value:
        """(batch, pieces, 384) -> batch, heads, pieces and channels in the given order."""
        y = _linear(graph, weight, f"{name}/{part}", x, WIDTH, WIDTH)
        split = graph.reshape(y, batch, pieces, HEADS, WIDTH // HEADS)
        return graph.op("Transpose", split, perm=list(order))

    q, k, v = heads("q", 0, 2, 1, 3), heads("k", 0, 2, 3, 1), heads("v", 0, 2, 1, 3)
    scale = graph.scalar(float((WIDTH // HEADS) ** -0.5))
    scores = graph.op("Mul", graph.op("MatMul", q, k), scale)
    share = graph.op("Softmax", graph.op("Add", scores, bias), axis=-1)
    mixed = graph.op("Transpose", graph.op("MatMul", share, v), perm=[0, 2, 1, 3])
    return _linear(
        graph, weight, f"{name}/o", graph.reshape(mixed, batch, pieces, WIDTH), WIDTH, WIDTH
    )


def open_transformer(subject: Subject, *, int8: bool = False) -> TransformerRunner:
    """Build the graph and open it. Raises BackendUnavailableError without onnx or onnxruntime."""
    onnxruntime = import_onnxruntime()
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors; a warning about unused weights is no news
    if subject.threads is not None:
        options.intra_op_num_threads = subject.threads
    model = build_transformer()
    content = _quantized(model) if int8 else model.SerializeToString()
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    return TransformerRunner(session)


def _quantized(model: Any) -> bytes:
    """The graph with 8-bit weights and activations, by ONNX Runtime's own dynamic quantization."""
    quantization = _import_quantization()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "int8.onnx")
        logging.disable(logging.WARNING)  # it recommends shape inference, which changes nothing
        try:
            # 7-bit weights: sums of 8-bit products overflow on processors without VNNI.
            quantization.quantize_dynamic(model, path, per_channel=True, reduce_range=True)
        finally:
            logging.disable(logging.NOTSET)
        return path.read_bytes()


def _import_quantization() -> ModuleType:
    try:
        return importlib.import_module("onnxruntime.quantization")
    except ImportError as error:
        raise BackendUnavailableError(
            f"the quantization of ONNX Runtime cannot be imported: {error}",
            hint='pip install "elmo-deploy[benchmark]"',
        ) from error
