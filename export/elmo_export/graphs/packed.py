"""The biLM over packed rows: padding is never computed. For CPUs; the plain interface outside.

Sentences are sorted by falling length, so that time step t runs on the first n_t of them. A
packed row is one (step, sentence); rows are ordered by step, then by sentence, as in torch's
PackedSequence. The backward direction packs its own reversed order, which has the same n_t.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from elmo_export.checkpoint import Checkpoint
from elmo_export.graphs.builder import GraphBuilder, Value
from elmo_export.graphs.lstm import LstmLayer, State
from elmo_export.graphs.outputs import BiLmRows
from elmo_export.graphs.packed_layer import Steps, run_layer
from elmo_export.graphs.weight_formats import Fp32

LANES = ((0,), (1,))


def packed_bilm(
    graph: GraphBuilder, checkpoint: Checkpoint, precision: Fp32, inputs: Mapping[str, Value]
) -> BiLmRows:
    """Inputs (docs/reference/graphs.md) -> packed rows of all layers: forward, then backward."""
    return _PackedBiLm(graph, checkpoint, precision, inputs).rows()


class _PackedBiLm:
    """N counts packed rows, S is the longest marked length, "rank" a sentence's sorted place."""

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
        self.sorted_lengths, self.order = graph.ops(
            "TopK", self.lengths, self.batch, n_outputs=2, axis=0
        )
        self.rank = graph.ops("TopK", self.order, self.batch, n_outputs=2, axis=0, largest=0)[1]
        step = graph.op("Unsqueeze", graph.count(self.marked), graph.ints(1))
        running = graph.op("Less", step, self.sorted_lengths)  # (M, batch)
        ones = graph.cast(running, np.int64)
        self.counts = graph.op("ReduceSum", ones, graph.ints(1), keepdims=0)  # n_t, (M,)
        self.starts = graph.op("CumSum", self.counts, graph.scalar(0, np.int64), exclusive=1)
        cells = graph.op("NonZero", running)
        halves = graph.ops("Split", cells, n_outputs=2, axis=0, num_outputs=2)
        self.step_of, self.rank_of = (graph.reshape(half, -1) for half in halves)  # (N,)
        words, self.numbers = self._words()
        self.words = graph.op("Gather", inputs["word_vectors"], words)  # (distinct words, P)

    def rows(self) -> BiLmRows:
        x = [self.graph.op("Gather", self.words, numbers) for numbers in self.numbers]
        layers, states = [x], []
        for depth in range(self.config.n_layers):
            y, state = self._layer(x, depth)
            if self.config.use_skip_connections and depth > 0:
                # The sum goes up and out, never into the recurrent state.
                y = [self.graph.op("Add", *pair) for pair in zip(y, x, strict=True)]
            layers.append(y)
            states.append(state)
            x = y
        return BiLmRows([self._flat(layer) for layer in layers], self._places(), states)

    def _words(self) -> tuple[Value, tuple[Value, Value]]:
        """The distinct words of the batch, as rows of word_vectors.

        Then their numbers at the packed rows, forward and backward, (N,).
        """
        graph = self.graph
        sentence = graph.op("Mul", graph.op("Gather", self.order, self.rank_of), self.marked)
        cells = graph.op("Add", sentence, self.step_of)
        words = graph.op("Gather", graph.reshape(self.inputs["word_index"], -1), cells)
        # ONNX Runtime's Unique knows no int32.
        distinct, _, forward = graph.ops("Unique", graph.cast(words, np.int64), n_outputs=3)
        last = graph.op("Sub", graph.op("Gather", self.sorted_lengths, self.rank_of), graph.ints(1))
        mirrored = graph.op("Gather", self.starts, graph.op("Sub", last, self.step_of))
        mirrored = graph.op("Add", mirrored, self.rank_of)
        return distinct, (forward, graph.op("Gather", forward, mirrored))

    def _layer(self, x: Sequence[Value], depth: int) -> tuple[list[Value], State]:
        """Inputs (N, P) of both directions -> outputs, and the states after each last step."""
        graph = self.graph
        layers = [
            LstmLayer.of(graph, self.checkpoint, self.precision, lane, depth) for lane in LANES
        ]
        # The lowest layer's products are those of words, of which many stand several times.
        sources = x if depth > 0 else [self.words, self.words]
        products = [
            layer.products(graph, source) for layer, source in zip(layers, sources, strict=True)
        ]
        rows = self.numbers if depth == 0 else [graph.count(graph.size(self.step_of, 0))] * 2
        before = [self._initial(depth, d) for d in (0, 1)]
        steps = Steps(products, rows, self.counts, [h for h, _ in before], [c for _, c in before])
        outputs, cells = run_layer(graph, layers, steps)
        last = graph.op("Gather", self.starts, graph.op("Sub", self.lengths, graph.ints(1)))
        last = graph.op("Add", last, self.rank)
        h = graph.stack([graph.op("Gather", y, last) for y in outputs], axis=0)
        c = graph.stack([graph.op("Gather", cell, self.rank) for cell in cells], axis=0)
        return outputs, State(h, c)

    def _initial(self, depth: int, direction: int) -> State:
        """The state before the first step, h (batch, P) and c (batch, C), in sorted order."""
        states = []
        for name in ("initial_h", "initial_c"):
            layer = self.graph.op("Gather", self.inputs[name], self.graph.scalar(depth, np.int64))
            one = self.graph.op("Gather", layer, self.graph.scalar(direction, np.int64))
            states.append(self.graph.op("Gather", one, self.order))
        return State(*states)

    def _flat(self, layer: Sequence[Value]) -> Value:
        """Rows of both directions -> (2N + 1, P), the last row zero."""
        zero = np.zeros((1, self.config.projection_dim), np.float32)
        return self.graph.op("Concat", *layer, self.graph.initializer("zero_row", zero), axis=0)

    def _places(self) -> Value:
        """Token t is step t + 1 of the forward half and step `its length` - t of the backward."""
        graph = self.graph
        token = graph.count(graph.op("Sub", self.marked, graph.ints(2)))
        length = graph.op("Unsqueeze", graph.cast(self.inputs["lengths"], np.int64), graph.ints(1))
        rank = graph.op("Unsqueeze", self.rank, graph.ints(1))
        n_rows = graph.size(self.step_of, 0)
        zero_row = graph.op("Mul", n_rows, graph.ints(2))
        real = graph.op("Less", token, length)
        # Beyond its length a sentence has no step; 0 keeps the lookup inside its table.
        step = graph.op("Max", graph.op("Sub", length, token), graph.ints(0))
        forward = graph.op("Gather", self.starts, graph.op("Add", token, graph.ints(1)))
        backward = graph.op("Add", graph.op("Gather", self.starts, step), n_rows)
        rows = [
            graph.op("Where", real, graph.op("Add", start, rank), zero_row)
            for start in (forward, backward)
        ]
        return graph.stack(rows, axis=2)
