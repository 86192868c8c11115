"""The biLM over packed rows: padding is never computed. For CPUs; the plain interface outside.

Sentences are sorted by falling length, so that time step t runs on the first n_t of them. A
packed row is one (step, sentence); rows are ordered by step, then by sentence, as in torch's
PackedSequence. The backward direction packs its own reversed order, which has the same n_t.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import onnx

from elmo_export.builder import GraphBuilder, Value
from elmo_export.cell import LstmLayer, State
from elmo_export.checkpoint import Checkpoint
from elmo_export.heads import BiLmRows
from elmo_export.precision import Fp32

LANES = ((0,), (1,))


def packed_bilm(
    graph: GraphBuilder, checkpoint: Checkpoint, precision: Fp32, inputs: Mapping[str, Value]
) -> BiLmRows:
    """The inputs of docs/graphs.md -> packed rows of all layers: forward, then backward."""
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
        self.n_steps = graph.op("ReduceMax", self.sorted_lengths, graph.ints(0), keepdims=0)
        step = graph.op("Unsqueeze", graph.count(self.marked), graph.ints(1))
        running = graph.op("Less", step, self.sorted_lengths)  # (M, batch)
        ones = graph.cast(running, np.int64)
        self.counts = graph.op("ReduceSum", ones, graph.ints(1), keepdims=0)  # n_t, (M,)
        self.starts = graph.op("CumSum", self.counts, graph.scalar(0, np.int64), exclusive=1)
        cells = graph.op("NonZero", running)
        halves = graph.ops("Split", cells, n_outputs=2, axis=0, num_outputs=2)
        self.step_of, self.rank_of = (graph.reshape(half, -1) for half in halves)  # (N,)
        self.tables = self._tables()
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
        results = graph.ops(
            "Loop",
            self.n_steps,
            graph.initializer("true", np.array(True)),
            *(part for d in (0, 1) for part in self._initial(depth, d)),
            n_outputs=8,
            body=self._body(layers, products, depth),
        )
        # A step's rows are padded to the full batch, because Loop stacks equal shapes only.
        full = graph.op("Add", graph.op("Mul", self.step_of, self.batch), self.rank_of)
        outputs = [
            graph.op("Gather", graph.reshape(stacked, -1, self.config.projection_dim), full)
            for stacked in results[6:]
        ]
        last = graph.op("Gather", self.starts, graph.op("Sub", self.lengths, graph.ints(1)))
        last = graph.op("Add", last, self.rank)
        h = graph.stack([graph.op("Gather", y, last) for y in outputs], axis=0)
        c = graph.stack([graph.op("Gather", results[n], self.rank) for n in (2, 5)], axis=0)
        return outputs, State(h, c)

    def _body(
        self, layers: Sequence[LstmLayer], products: Sequence[Value], depth: int
    ) -> onnx.GraphProto:
        """One time step of both directions.

        The state that a step leaves shrinks to the sentences that go on. The cells of those that
        end are put before the ones that ended earlier; at last all are there, in sorted order.
        """
        P, C = self.config.projection_dim, self.config.lstm_dim
        bounds, splits, pads = self.tables
        body = self.graph.body(f"layer{depth}")
        step, going = body.input("step", np.int64, ()), body.input("going", np.bool_, ())
        before, ended = [], []
        for d in (0, 1):
            h = body.input(f"h{d}", np.float32, (f"going{d}", P))
            before.append(State(h, body.input(f"c{d}", np.float32, (f"going{d}", C))))
            ended.append(body.input(f"ended{d}", np.float32, (f"gone{d}", C)))
        bound = body.op("Gather", bounds, step)
        first, end = body.ops("Split", bound, n_outputs=2, num_outputs=2)
        split, pad = body.op("Gather", splits, step), body.op("Gather", pads, step)
        body.output("still_going", going, np.bool_, ())
        shown = []
        for d, layer in enumerate(layers):
            rows = products[d] if depth > 0 else self.numbers[d]
            product = body.op("Slice", rows, first, end, body.ints(0))
            if depth == 0:
                product = body.op("Gather", products[d], product)
            after = layer.step(body, product, before[d])
            h, _ = body.ops("Split", after.h, split, n_outputs=2, axis=0)
            c, ending = body.ops("Split", after.c, split, n_outputs=2, axis=0)
            gone = body.op("Concat", ending, ended[d], axis=0)
            body.output(f"next_h{d}", h, np.float32, (f"next{d}", P))
            body.output(f"next_c{d}", c, np.float32, (f"next{d}", C))
            body.output(f"next_ended{d}", gone, np.float32, (f"next_gone{d}", C))
            shown.append(body.op("Pad", after.h, pad))
        for d in (0, 1):
            body.output(f"y{d}", shown[d], np.float32, ("batch", P))
        return body.subgraph()

    def _tables(self) -> tuple[Value, Value, Value]:
        """What the loop looks up at a step t, by row.

        bounds (M, 2): its first packed row, and one past its last. splits (M, 2): sentences that
        go on after it, and those that end with it. pads (M, 4): what Pad adds to its rows.
        """
        graph = self.graph
        following = graph.op("Slice", self.counts, graph.ints(1), self.marked, graph.ints(0))
        following = graph.op("Concat", following, graph.ints(0), axis=0)
        ending = graph.op("Sub", self.counts, following)
        missing = graph.op("Sub", self.batch, self.counts)
        nothing = graph.op("Sub", self.counts, self.counts)
        ends = graph.op("Add", self.starts, self.counts)
        return (
            graph.stack([self.starts, ends], axis=1),
            graph.stack([following, ending], axis=1),
            graph.stack([nothing, nothing, missing, nothing], axis=1),
        )

    def _initial(self, depth: int, direction: int) -> tuple[Value, Value, Value]:
        """State before the first step, h (batch, P), c (batch, C), and the cells of no sentence."""
        graph = self.graph
        states = []
        for name in ("initial_h", "initial_c"):
            layer = graph.op("Gather", self.inputs[name], graph.scalar(depth, np.int64))
            one = graph.op("Gather", layer, graph.scalar(direction, np.int64))
            states.append(graph.op("Gather", one, self.order))
        none = np.zeros((0, self.config.lstm_dim), np.float32)
        return states[0], states[1], graph.initializer("no_cells", none)

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
