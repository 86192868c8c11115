"""Which products leave the range of FP16, by bounds where there are some, else by trying words."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from elmo_export.checkpoint import Checkpoint
from elmo_export.graphs.builder import GraphBuilder, Value
from elmo_export.graphs.lstm import layer_weight
from elmo_export.graphs.token_encoder import encode_words
from elmo_export.graphs.weight_formats import Fp32, Weight
from elmo_export.verify.cases import trial_words
from elmo_export.verify.sessions import open_session
from elmo_runtime.float16 import FP16_MAX

# The words tried are not all words: what comes this near to the end of the range is beyond it.
MARGIN = 4.0


def kept_in_fp32(checkpoint: Checkpoint) -> dict[str, str]:
    """Weight of the FP16 graphs -> why it and its product must stay FP32. Mostly empty."""
    magnitudes = _encoder_magnitudes(checkpoint)
    magnitudes |= _recurrent_bounds(checkpoint, magnitudes["char_cnn.projection.weight"])
    limit = FP16_MAX / MARGIN
    return {
        name: f"kept in fp32: values up to {magnitude:.3g}, fp16 ends at {FP16_MAX:.0f}"
        for name, magnitude in magnitudes.items()
        if not magnitude <= limit
    }


class _Observed(Fp32):
    """Notes the input and the output of every product."""

    def __init__(self) -> None:
        self.seen: dict[str, tuple[Weight, Value, Value]] = {}

    def strongest(self, graph: GraphBuilder, x: Value, weight: Weight, bias: Weight) -> Value:
        y = super().strongest(graph, x, weight, bias)
        self.seen[weight.name] = (weight, x, y)
        return y

    def product(
        self,
        graph: GraphBuilder,
        x: Value,
        weight: Weight,
        addend: Value | None = None,
        *,
        bound: float = np.inf,
    ) -> Value:
        y = super().product(graph, x, weight, addend, bound=bound)
        self.seen[weight.name] = (weight, x, y)
        return y


def _encoder_magnitudes(checkpoint: Checkpoint) -> dict[str, float]:
    """Weight -> the largest number in it, in what it multiplies and in the product."""
    graph, observed = GraphBuilder("ranges"), _Observed()
    char_ids = graph.input("char_ids", np.int32, ("words", "characters"))
    encode_words(graph, checkpoint, observed, char_ids)
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
    """The same for the biLM as bounds, given the largest number in word vectors.

    |h| is at most the clip, or without one the column sum of Wp, since |sigmoid * tanh| <= 1.
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
    """The largest number that vectors within -1..1 times the matrix can give."""
    return float(np.abs(matrix).sum(axis=-2, dtype=np.float64).max())
