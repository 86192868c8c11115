"""A user's script: mypy and pyright check it, nothing runs it."""

from collections.abc import Iterator
from typing import Any, assert_type

import numpy as np
from numpy.typing import NDArray

from elmo_runtime import CpuOptions, Embedder, Embeddings, Limits, State
from elmo_runtime.outputs import Rows

Array = NDArray[np.floating[Any]]

with Embedder.load("bundle", cpu=CpuOptions(threads=2), limits=Limits(max_running=1)) as elmo:
    assert_type(elmo, Embedder)
    out = elmo.embed(["a cat", ["a", "dog"]], outputs=["elmo", "default", "layers", "layer_means"])
    stream = elmo.embed_stream(["a cat"])

assert_type(out, Embeddings)
assert_type(stream, Iterator[Embeddings])
assert_type(out.elmo, list[Array])
assert_type(out.word_emb, list[Array])
assert_type(out.layers, list[Array])
assert_type(out.default, Array)
assert_type(out.layer_means, Array)
assert_type(out["elmo"], list[Array])
assert_type(out["lstm_outputs1"], list[Array])
assert_type(out["default"], Array)
assert_type(out["elmo:ner"], Rows)
assert_type(out["elmo:ner"][0], Array)
assert_type([vectors for vectors in out["elmo:ner"]], list[Array])
assert_type(out.padded("elmo:ner"), Array)
assert_type(out.lengths, NDArray[np.int32])
assert_type(out.state, State | None)
