"""The biLM as a Scan over padded time with both directions in one body: runs on any backend.

Its shape is what TensorRT fuses well: the input products of all steps are one GEMM outside the
loop, the loop has as many steps as the padded length, and no node of it depends on the data.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import onnx

from elmo_export.checkpoint import Checkpoint
from elmo_export.graphs.builder import GraphBuilder, Value
from elmo_export.graphs.lstm import LstmLayer, State
from elmo_export.graphs.outputs import BiLmRows
from elmo_export.graphs.weight_formats import Fp32, Lane


def padded_bilm(
    graph: GraphBuilder, checkpoint: Checkpoint, precision: Fp32, inputs: Mapping[str, Value]
) -> BiLmRows:
    """Inputs (docs/reference/graphs.md) -> time-major rows of all layers, forward first."""
    return _PaddedBiLm(graph, checkpoint, precision, inputs).rows()


class _PaddedBiLm:
    """Values by lane have the axes ([2,] M, batch, D), where M is marked_length."""

    def __init__(
        self,
        graph: GraphBuilder,
        checkpoint: Checkpoint,
        precision: Fp32,
        inputs: Mapping[str, Value],
    ) -> None:
        self.graph, self.checkpoint, self.config = graph, checkpoint, checkpoint.config
        self.precision, self.inputs = precision, inputs
        self.batch = graph.size(inputs["word_index"], 0)
        self.marked = graph.size(inputs["word_index"], 1)
        lengths = graph.cast(inputs["lengths"], np.int64)
        self.lengths = graph.op("Add", lengths, graph.ints(2))  # sentence marks counted
        self.step = graph.op("Unsqueeze", graph.count(self.marked), graph.ints(1))  # (M, 1)
        self.valid = graph.op("Less", self.step, self.lengths)  # (M, batch)

    def rows(self) -> BiLmRows:
        x = self._tokens()
        layers, states = [x], []
        for depth in range(self.config.n_layers):
            y, state = self._layer(x, depth)
            if self.config.use_skip_connections and depth > 0:
                # The sum goes up and out, never into the recurrent state.
                y = {lane: self.graph.op("Add", y[lane], x[lane]) for lane in y}
            layers.append(y)
            states.append(state)
            x = y
        return BiLmRows([self._flat(layer) for layer in layers], self._places(), states)

    def _tokens(self) -> dict[Lane, Value]:
        """Token vectors, each direction in its own order."""
        graph = self.graph
        last = graph.op("Sub", self.lengths, graph.ints(1))
        mirror = graph.op("Where", self.valid, graph.op("Sub", last, self.step), self.step)
        forward = graph.op(
            "Transpose", graph.cast(self.inputs["word_index"], np.int64), perm=[1, 0]
        )
        orders = (forward, graph.op("GatherElements", forward, mirror, axis=0))
        return {
            lane: graph.op(
                "Gather", self.inputs["word_vectors"], self._join([orders[d] for d in lane])
            )
            for lane in self.precision.lanes
        }

    def _layer(self, x: Mapping[Lane, Value], depth: int) -> tuple[dict[Lane, Value], State]:
        """Inputs of a layer -> its outputs, and the states after each sentence's last step."""
        graph, lanes = self.graph, self.precision.lanes
        layers = [
            LstmLayer.of(graph, self.checkpoint, self.precision, lane, depth) for lane in lanes
        ]
        products = [self._products(layer, x[layer.lane]) for layer in layers]
        axes = [len(layer.lead) for layer in layers]
        results = graph.ops(
            "Scan",
            *(part for layer in layers for part in self._initial(layer, depth)),
            graph.op("Unsqueeze", self.valid, graph.ints(2)),
            *products,
            n_outputs=3 * len(lanes),
            body=self._body(layers, depth),
            num_scan_inputs=1 + len(lanes),
            scan_input_axes=[0, *axes],
            scan_output_axes=axes,
        )
        cells, outputs = results[1 : 2 * len(lanes) : 2], results[2 * len(lanes) :]
        y = {lane: self._full(output) for lane, output in zip(lanes, outputs, strict=True)}
        h = self._join([self._last(layer, y[layer.lane]) for layer in layers])
        return y, State(h, self._join(cells))

    def _products(self, layer: LstmLayer, x: Value) -> Value:
        P, C = self.config.projection_dim, self.config.lstm_dim
        products = layer.products(self.graph, self.graph.reshape(x, *layer.lead, -1, P))
        return self.graph.reshape(products, *layer.lead, self.marked, self.batch, 4 * C)

    def _body(self, layers: Sequence[LstmLayer], depth: int) -> onnx.GraphProto:
        """One time step of every lane.

        Past a sentence's length c stands still. h need not: c does not follow it any more, and
        the final h is read from the outputs.
        """
        P, C, stored = self.config.projection_dim, self.config.lstm_dim, self.precision.stored
        body = self.graph.body(f"layer{depth}")
        before = [
            State(
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
        return self.precision.store(graph, h), c

    def _last(self, layer: LstmLayer, y: Value) -> Value:
        """Outputs of all steps -> those of each sentence's last step, (..., batch, P)."""
        graph = self.graph
        step = graph.op("Sub", self.lengths, graph.ints(1))
        rows = graph.op("Add", graph.op("Mul", step, self.batch), graph.count(self.batch))
        flat = graph.reshape(y, *layer.lead, -1, self.config.projection_dim)
        return graph.op("Gather", flat, rows, axis=len(layer.lead))

    def _flat(self, layer: Mapping[Lane, Value]) -> Value:
        """Values by lane -> (2 * M * batch + 1, P), the last row zero."""
        P = self.config.projection_dim
        zero = self.graph.initializer("zero_row", np.zeros((1, P), np.float32))
        rows = [self.graph.reshape(part, -1, P) for part in layer.values()]
        return self.graph.op("Concat", *rows, zero, axis=0)

    def _places(self) -> Value:
        """Token t is step t + 1 of the forward half and step `its length` - t of the backward."""
        graph = self.graph
        token = graph.op(
            "Unsqueeze", graph.count(graph.op("Sub", self.marked, graph.ints(2))), graph.ints(0)
        )
        length = graph.op("Unsqueeze", graph.cast(self.inputs["lengths"], np.int64), graph.ints(1))
        sentence = graph.op("Unsqueeze", graph.count(self.batch), graph.ints(1))
        backward = graph.op("Add", graph.op("Sub", length, token), self.marked)
        zero_row = graph.op("Mul", graph.ints(2), graph.op("Mul", self.marked, self.batch))
        real = graph.op("Less", token, length)
        rows = []
        for step in (graph.op("Add", token, graph.ints(1)), backward):
            row = graph.op("Add", graph.op("Mul", step, self.batch), sentence)
            rows.append(graph.op("Where", real, row, zero_row))
        return graph.stack(rows, axis=2)

    def _full(self, y: Value) -> Value:
        """What a lane stores -> FP32."""
        return y if self.precision.stored == np.float32 else self.graph.cast(y, np.float32)

    def _join(self, values: Sequence[Value]) -> Value:
        """Both directions on a new leading axis, unless they are on one already."""
        return values[0] if len(values) == 1 else self.graph.stack(values, axis=0)
