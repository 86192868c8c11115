"""The biLM over packed rows: padding is never computed. For CPUs.

Sentences are sorted by descending length, so that time step t runs on the first n_t of them. A
packed row is one (step, sentence); rows are ordered by step, then by sentence, as in torch's
PackedSequence. The backward direction packs its own reversed order, which has the same n_t.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from elmo_export.graphs.bilm import BatchSizes, Inputs
from elmo_export.graphs.builder import Value
from elmo_export.graphs.lstm import LstmLayer, LstmValues
from elmo_export.graphs.packed_layer import Steps, run_layer
from elmo_export.graphs.weight_formats import EACH_DIRECTION
from elmo_export.graphs.writer import Writer


class PackedForm:
    """N is the number of packed rows, M the padded length; a rank is a sentence's sorted index."""

    def __init__(self, writer: Writer, inputs: Inputs) -> None:
        self.writer, self.inputs, self.graph = writer, inputs, writer.graph
        graph, self.sizes = writer.graph, BatchSizes.of(writer.graph, inputs)
        self.sorted_lengths, self.order = graph.ops(
            "TopK", self.sizes.lengths, self.sizes.batch, n_outputs=2, axis=0
        )
        self.rank = graph.ops("TopK", self.order, self.sizes.batch, n_outputs=2, axis=0, largest=0)[
            1
        ]
        step = graph.op("Unsqueeze", graph.count(self.sizes.longest), graph.ints(1))
        running = graph.op("Less", step, self.sorted_lengths)  # (M, batch)
        ones = graph.cast(running, np.int64)
        self.counts = graph.op("ReduceSum", ones, graph.ints(1), keepdims=0)  # n_t, (M,)
        self.starts = graph.op("CumSum", self.counts, graph.scalar(0, np.int64), exclusive=1)
        cells = graph.op("NonZero", running)
        halves = graph.ops("Split", cells, n_outputs=2, axis=0, num_outputs=2)
        self.step_of, self.rank_of = (graph.reshape(half, -1) for half in halves)  # (N,)
        words, self.numbers = self._words()
        self.words = graph.op("Gather", inputs["word_vectors"], words)  # (distinct words, P)

    def tokens(self) -> list[Value]:
        """(N, P) of both directions."""
        return [self.graph.op("Gather", self.words, numbers) for numbers in self.numbers]

    def layer(self, x: Sequence[Value], depth: int) -> tuple[list[Value], LstmValues]:
        """Inputs (N, P) of both directions -> outputs, and the states after each last step."""
        graph = self.graph
        layers = [LstmLayer.of(self.writer, lane, depth) for lane in EACH_DIRECTION]
        # The lowest layer multiplies distinct words, because many occur several times.
        sources = x if depth > 0 else [self.words, self.words]
        products = [
            layer.products(graph, source) for layer, source in zip(layers, sources, strict=True)
        ]
        rows = self.numbers if depth == 0 else [graph.count(graph.size(self.step_of, 0))] * 2
        before = [self._initial(depth, d) for d in (0, 1)]
        steps = Steps(products, rows, self.counts, [h for h, _ in before], [c for _, c in before])
        outputs, cells = run_layer(graph, layers, steps)
        last = graph.op("Gather", self.starts, graph.op("Sub", self.sizes.lengths, graph.ints(1)))
        last = graph.op("Add", last, self.rank)
        h = graph.stack([graph.op("Gather", y, last) for y in outputs], axis=0)
        c = graph.stack([graph.op("Gather", cell, self.rank) for cell in cells], axis=0)
        return outputs, LstmValues(h, c)

    def rows(self, layer: Sequence[Value]) -> list[Value]:
        """(N, P) of both directions: the rows are packed already."""
        return list(layer)

    def positions(self) -> Value:
        """Token t is step t + 1 of the forward half and step `its length` - t of the backward."""
        graph = self.graph
        token = graph.count(graph.op("Sub", self.sizes.longest, graph.ints(2)))
        length = graph.op("Unsqueeze", graph.cast(self.inputs["lengths"], np.int64), graph.ints(1))
        rank = graph.op("Unsqueeze", self.rank, graph.ints(1))
        n_rows = graph.size(self.step_of, 0)
        zero_row = graph.op("Mul", n_rows, graph.ints(2))
        real = graph.op("Less", token, length)
        # A sentence has no step past its length; 0 keeps the lookup inside its table.
        step = graph.op("Max", graph.op("Sub", length, token), graph.ints(0))
        forward = graph.op("Gather", self.starts, graph.op("Add", token, graph.ints(1)))
        backward = graph.op("Add", graph.op("Gather", self.starts, step), n_rows)
        rows = [
            graph.op("Where", real, graph.op("Add", start, rank), zero_row)
            for start in (forward, backward)
        ]
        return graph.stack(rows, axis=2)

    def _words(self) -> tuple[Value, tuple[Value, Value]]:
        """The distinct words of the batch, as rows of word_vectors.

        The second result holds their numbers at the packed rows, (N,) forward and backward.
        """
        graph = self.graph
        sentence = graph.op("Mul", graph.op("Gather", self.order, self.rank_of), self.sizes.longest)
        cells = graph.op("Add", sentence, self.step_of)
        words = graph.op("Gather", graph.reshape(self.inputs["word_index"], -1), cells)
        # ONNX Runtime's Unique does not support int32.
        distinct, _, forward = graph.ops("Unique", graph.cast(words, np.int64), n_outputs=3)
        last = graph.op("Sub", graph.op("Gather", self.sorted_lengths, self.rank_of), graph.ints(1))
        mirrored = graph.op("Gather", self.starts, graph.op("Sub", last, self.step_of))
        mirrored = graph.op("Add", mirrored, self.rank_of)
        return distinct, (forward, graph.op("Gather", forward, mirrored))

    def _initial(self, depth: int, direction: int) -> LstmValues:
        """The state before the first step, h (batch, P) and c (batch, C), in sorted order."""
        states = []
        for name in ("initial_h", "initial_c"):
            layer = self.graph.op("Gather", self.inputs[name], self.graph.scalar(depth, np.int64))
            one = self.graph.op("Gather", layer, self.graph.scalar(direction, np.int64))
            states.append(self.graph.op("Gather", one, self.order))
        return LstmValues(*states)
