"""Which products exceed the range of FP16: by bounds if there are any, else by trying words."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from elmo_export.checkpoint import Checkpoint
from elmo_export.graphs.builder import GraphBuilder, Value
from elmo_export.graphs.lstm import layer_weight
from elmo_export.graphs.token_encoder import encode_words
from elmo_export.graphs.weight_formats import FP32, Weight, WeightFormat
from elmo_export.graphs.writer import Writer
from elmo_export.verify.cases import trial_words
from elmo_export.verify.sessions import open_session
from elmo_runtime.float16 import FP16_MAX

# The trial covers few words: a value this close to the end of the range counts as beyond it.
MARGIN = 4.0


def kept_in_fp32(checkpoint: Checkpoint) -> dict[str, str]:
    """Weight of the FP16 graphs -> why it and its product must stay FP32. Empty for most models."""
    magnitudes = _encoder_magnitudes(checkpoint)
    magnitudes |= _recurrent_bounds(checkpoint, magnitudes["char_cnn.projection.weight"])
    limit = FP16_MAX / MARGIN
    return {
        name: f"kept in fp32: values up to {magnitude:.3g}, fp16 ends at {FP16_MAX:.0f}"
        for name, magnitude in magnitudes.items()
        if not magnitude <= limit
    }


class _Observed:
    """A weight format that records the input and the output of every product of another one."""

    def __init__(self, inner: WeightFormat) -> None:
        self._inner = inner
        self.name, self.lanes, self.stored = inner.name, inner.lanes, inner.stored
        self.seen: dict[str, tuple[Weight, Value, Value]] = {}

    def max_convolution(self, graph: GraphBuilder, x: Value, weight: Weight, bias: Weight) -> Value:
        return self._note(weight, x, self._inner.max_convolution(graph, x, weight, bias))

    def product(
        self,
        graph: GraphBuilder,
        x: Value,
        weight: Weight,
        addend: Value | None = None,
        *,
        bound: float = np.inf,
    ) -> Value:
        return self._note(weight, x, self._inner.product(graph, x, weight, addend, bound=bound))

    def input_product(self, graph: GraphBuilder, x: Value, weight: Weight, bias: Value) -> Value:
        return self._note(weight, x, self._inner.input_product(graph, x, weight, bias))

    def gates(
        self, graph: GraphBuilder, product: Value, h: Value, weight: Weight, bias: Value
    ) -> Value:
        return self._note(weight, h, self._inner.gates(graph, product, h, weight, bias))

    def store(self, graph: GraphBuilder, h: Value) -> Value:
        return self._inner.store(graph, h)

    def _note(self, weight: Weight, x: Value, y: Value) -> Value:
        self.seen[weight.name] = (weight, x, y)
        return y


def _encoder_magnitudes(checkpoint: Checkpoint) -> dict[str, float]:
    """Weight -> the largest magnitude in it, in its inputs and in its product."""
    graph, observed = GraphBuilder("ranges"), _Observed(FP32)
    char_ids = graph.input("char_ids", np.int32, ("words", "characters"))
    encode_words(Writer(graph, checkpoint, observed), char_ids)
    for name, (_, x, y) in observed.seen.items():
        peaks = [_peak(graph, value) for value in (x, y)]
        graph.output(f"peak/{name}", graph.op("Max", *peaks), np.float32, ())
    session = open_session(graph.model().SerializeToString())
    found = session.run(None, {"char_ids": trial_words(checkpoint.config)})
    return {
        name: max(float(peak), float(np.abs(weight.array).max()))
        for (name, (weight, _, _)), peak in zip(observed.seen.items(), found, strict=True)
    }


def _recurrent_bounds(checkpoint: Checkpoint, words: float) -> dict[str, float]:
    """The same for the biLM as bounds, given the largest magnitude in token vectors.

    |h| is at most the clip, or without a clip the column sum of Wp, because |sigmoid * tanh| <= 1.
    """
    config, bounds = checkpoint.config, {}
    x = words
    for depth in range(config.n_layers):
        layer = {
            part: layer_weight(checkpoint, (0, 1), depth, part)
            for part in ("input_weight", "recurrent_weight", "projection_weight")
        }
        shown = _column_sum(layer["projection_weight"].array)
        h = config.proj_clip or shown
        inputs = {"input_weight": x, "recurrent_weight": h, "projection_weight": 1.0}
        for part, bound in inputs.items():
            weight = layer[part]
            bounds[weight.name] = max(bound, bound * _column_sum(weight.array))
        x = h + x if config.use_skip_connections and depth > 0 else h
    return bounds


def _peak(graph: GraphBuilder, value: Value) -> Value:
    return graph.op("ReduceMax", graph.op("Abs", value), keepdims=0)


def _column_sum(matrix: NDArray[np.float32]) -> float:
    """The largest magnitude in a product of the matrix with a vector within -1..1."""
    return float(np.abs(matrix).sum(axis=-2, dtype=np.float64).max())
