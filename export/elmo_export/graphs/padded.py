"""The biLM as a Scan over padded time with both directions in one body: runs on every backend.

TensorRT fuses this shape well: the input products of all steps are one GEMM outside the loop, the
loop has as many steps as the padded length, and none of its nodes depends on the data.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx

from elmo_export.graphs.bilm import BatchSizes, Inputs
from elmo_export.graphs.builder import Value
from elmo_export.graphs.lstm import LstmLayer, LstmValues
from elmo_export.graphs.writer import Writer


class PaddedForm:
    """Vectors have the axes ([2,] M, batch, D) per lane, where M is the padded length."""

    def __init__(self, writer: Writer, inputs: Inputs) -> None:
        self.writer, self.inputs = writer, inputs
        self.graph, self.config = writer.graph, writer.config
        self.lanes, self.stored = writer.weight_format.lanes, writer.weight_format.stored
        self.sizes = BatchSizes.of(writer.graph, inputs)
        count = self.graph.count(self.sizes.longest)
        self.step = self.graph.op("Unsqueeze", count, self.graph.ints(1))  # (M, 1)
        self.valid = self.graph.op("Less", self.step, self.sizes.lengths)  # (M, batch)

    def tokens(self) -> list[Value]:
        """Token vectors; a backward sentence is reversed in place, its padding stays."""
        graph = self.graph
        last = graph.op("Sub", self.sizes.lengths, graph.ints(1))
        mirror = graph.op("Where", self.valid, graph.op("Sub", last, self.step), self.step)
        forward = graph.op(
            "Transpose", graph.cast(self.inputs["word_index"], np.int64), perm=[1, 0]
        )
        orders = (forward, graph.op("GatherElements", forward, mirror, axis=0))
        return [
            graph.op("Gather", self.inputs["word_vectors"], self._join([orders[d] for d in lane]))
            for lane in self.lanes
        ]

    def layer(self, x: Sequence[Value], depth: int) -> tuple[list[Value], LstmValues]:
        """Inputs of a layer -> its outputs, and the states after each sentence's last step."""
        graph, n_lanes = self.graph, len(self.lanes)
        layers = [LstmLayer.of(self.writer, lane, depth) for lane in self.lanes]
        products = [self._products(*pair) for pair in zip(layers, x, strict=True)]
        axes = [len(layer.lead) for layer in layers]
        results = graph.ops(
            "Scan",
            *(part for layer in layers for part in self._initial(layer, depth)),
            graph.op("Unsqueeze", self.valid, graph.ints(2)),
            *products,
            n_outputs=3 * n_lanes,
            body=self._body(layers, depth),
            num_scan_inputs=1 + n_lanes,
            scan_input_axes=[0, *axes],
            scan_output_axes=axes,
        )
        cells, outputs = results[1 : 2 * n_lanes : 2], results[2 * n_lanes :]
        y = [self._full(output) for output in outputs]
        h = self._join([self._last(*pair) for pair in zip(layers, y, strict=True)])
        return y, LstmValues(h, self._join(cells))

    def rows(self, layer: Sequence[Value]) -> list[Value]:
        """([2,] M, batch, P) per lane -> ([2] * M * batch, P) per lane."""
        return [self.graph.reshape(part, -1, self.config.projection_dim) for part in layer]

    def positions(self) -> Value:
        """Token t is step t + 1 of the forward half and step `its length` - t of the backward."""
        graph = self.graph
        token = graph.op(
            "Unsqueeze",
            graph.count(graph.op("Sub", self.sizes.longest, graph.ints(2))),
            graph.ints(0),
        )
        length = graph.op("Unsqueeze", graph.cast(self.inputs["lengths"], np.int64), graph.ints(1))
        sentence = graph.op("Unsqueeze", graph.count(self.sizes.batch), graph.ints(1))
        backward = graph.op("Add", graph.op("Sub", length, token), self.sizes.longest)
        zero_row = graph.op(
            "Mul", graph.ints(2), graph.op("Mul", self.sizes.longest, self.sizes.batch)
        )
        real = graph.op("Less", token, length)
        rows = []
        for step in (graph.op("Add", token, graph.ints(1)), backward):
            row = graph.op("Add", graph.op("Mul", step, self.sizes.batch), sentence)
            rows.append(graph.op("Where", real, row, zero_row))
        return graph.stack(rows, axis=2)

    def _products(self, layer: LstmLayer, x: Value) -> Value:
        P, C = self.config.projection_dim, self.config.lstm_dim
        products = layer.products(self.graph, self.graph.reshape(x, *layer.lead, -1, P))
        return self.graph.reshape(
            products, *layer.lead, self.sizes.longest, self.sizes.batch, 4 * C
        )

    def _body(self, layers: Sequence[LstmLayer], depth: int) -> onnx.GraphProto:
        """One time step of every lane.

        Past a sentence's length c does not change. h may: c no longer depends on it, and the final
        h is read from the outputs.
        """
        P, C, stored = self.config.projection_dim, self.config.lstm_dim, self.stored
        body = self.graph.body(f"layer{depth}")
        before = [
            LstmValues(
                body.input(f"h{n}", stored, (*layer.lead, "batch", P)),
                body.input(f"c{n}", np.float32, (*layer.lead, "batch", C)),
            )
            for n, layer in enumerate(layers)
        ]
        valid = body.input("valid", np.bool_, ("batch", 1))
        products = [
            body.input(f"product{n}", stored, (*layer.lead, "batch", 4 * C))
            for n, layer in enumerate(layers)
        ]
        shown = []
        for n, layer in enumerate(layers):
            after = layer.step(body, products[n], before[n])
            c = body.op("Where", valid, after.c, before[n].c)
            shown.append(body.cast(after.h, stored) if stored != np.float32 else after.h)
            body.output(f"next_h{n}", shown[n], stored, (*layer.lead, "batch", P))
            body.output(f"next_c{n}", c, np.float32, (*layer.lead, "batch", C))
        for n, layer in enumerate(layers):
            body.output(f"y{n}", shown[n], stored, (*layer.lead, "batch", P))
        return body.subgraph()

    def _initial(self, layer: LstmLayer, depth: int) -> tuple[Value, Value]:
        """The states of a layer before the first step: h (..., batch, P) and c (..., batch, C)."""
        graph = self.graph
        h, c = (
            graph.op("Gather", self.inputs[name], graph.scalar(depth, np.int64))
            for name in ("initial_h", "initial_c")
        )
        if not layer.lead:
            direction = graph.scalar(layer.lane[0], np.int64)
            h, c = graph.op("Gather", h, direction), graph.op("Gather", c, direction)
        return self.writer.weight_format.store(graph, h), c

    def _last(self, layer: LstmLayer, y: Value) -> Value:
        """Outputs of all steps -> those of each sentence's last step, (..., batch, P)."""
        graph = self.graph
        step = graph.op("Sub", self.sizes.lengths, graph.ints(1))
        rows = graph.op(
            "Add", graph.op("Mul", step, self.sizes.batch), graph.count(self.sizes.batch)
        )
        flat = graph.reshape(y, *layer.lead, -1, self.config.projection_dim)
        return graph.op("Gather", flat, rows, axis=len(layer.lead))

    def _full(self, y: Value) -> Value:
        """The stored type -> FP32."""
        return y if self.stored == np.float32 else self.graph.cast(y, np.float32)

    def _join(self, values: Sequence[Value]) -> Value:
        """Both directions on a new leading axis, unless one value holds them already."""
        return values[0] if len(values) == 1 else self.graph.stack(values, axis=0)
