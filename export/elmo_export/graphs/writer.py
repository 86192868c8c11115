"""The operations of an ELMo on one graph, with the weights of one checkpoint in one format."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from elmo_export.checkpoint import Checkpoint
from elmo_export.graphs.builder import GraphBuilder, Value
from elmo_export.graphs.weight_formats import FP32, Weight, WeightFormat
from elmo_runtime.config import ElmoConfig


@dataclass(frozen=True)
class Writer:
    """Writes the parts of a model by the names of their tensors in the checkpoint."""

    graph: GraphBuilder
    checkpoint: Checkpoint
    weight_format: WeightFormat = FP32

    @property
    def config(self) -> ElmoConfig:
        """The sizes of the model."""
        return self.checkpoint.config

    def embed(self, name: str, ids: Value) -> Value:
        """(..., n) ids from 1 -> (..., n, d) rows of the tensor; id 0 is a row of zeros."""
        rows = self.checkpoint.tensors[name]
        zeros = np.zeros((1, rows.shape[1]), np.float32)
        no_row = self.graph.initializer("char_cnn.no_character", zeros)
        table = self.graph.op("Concat", no_row, self.graph.initializer(name, rows), axis=0)
        return self.graph.op("Gather", table, ids)

    def convolve(self, name: str, x: Value) -> Value:
        """(words, d, 1, characters) -> (words, count, 1, 1), the maximum over positions."""
        weight = Weight(f"{name}.weight", self.checkpoint.tensors[f"{name}.weight"][:, :, None])
        bias = Weight(f"{name}.bias", self.checkpoint.tensors[f"{name}.bias"])
        return self.weight_format.max_convolution(self.graph, x, weight, bias)

    def linear(self, name: str, x: Value) -> Value:
        """(rows, K) -> (rows, N): x @ weight.T + bias."""
        weight = self.checkpoint.tensors[f"{name}.weight"]
        bias = self.graph.initializer(f"{name}.bias", self.checkpoint.tensors[f"{name}.bias"])
        transposed = Weight(f"{name}.weight", weight, transposed=True)
        return self.weight_format.product(self.graph, x, transposed, bias)
