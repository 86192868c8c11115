"""What the embedder asks of a backend. It knows words, batches and arrays, no library."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from elmo_runtime.bundle.manifest import Bundle
from elmo_runtime.errors import BackendUnavailableError

FloatArray = NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class BackendOptions:
    """How a backend may use the machine; one that has no such setting ignores it."""

    threads: int | None = None  # None: one per core that this process may use
    spinning: bool = True  # threads wait actively: faster, but a core is busy while they wait
    gpu_mem_limit: int | None = None  # bytes of device memory that ONNX Runtime may take
    trusted_engines: tuple[str, ...] = ()  # digests of engines from elsewhere that may be opened


@dataclass(frozen=True, kw_only=True)
class BiLmInputs:
    """The inputs of the graph `bilm`, named and shaped as in docs/reference/graphs.md."""

    word_vectors: FloatArray  # (words, P)
    word_index: NDArray[np.int32]  # (batch, length + 2)
    lengths: NDArray[np.int32]  # (batch,)
    mix_weights: FloatArray  # (mixes, layers + 1)
    gamma: FloatArray  # (mixes,)
    initial_h: FloatArray  # (layers, 2, batch, P)
    initial_c: FloatArray  # (layers, 2, batch, C)
    # (words,) see word_vectors.IdentifiedWords; None: none is remembered
    word_ids: NDArray[np.int64] | None = None
    layer_norm: FloatArray | None = None  # (mixes,), where a mix of the bundle has a layer norm

    def of_graph(self) -> dict[str, NDArray[Any]]:
        """The arrays that the graph takes, by its names."""
        given = {name: array for name, array in vars(self).items() if name != "word_ids"}
        return {name: array for name, array in given.items() if array is not None}

    def of_mixes(self) -> dict[str, FloatArray]:
        """The arrays that describe the layer mixes, by their names in the graph."""
        names = ("mix_weights", "gamma", "layer_norm")
        given = self.of_graph()
        return {name: given[name] for name in names if name in given}


class Backend(Protocol):
    """An open bundle on one device. Both computations may run in many threads at once.

    They raise BackendError, or DeviceMemoryError when a smaller batch may still work.
    """

    name: str  # as the caller may ask for it, e.g. "onnxruntime-cpu"
    precision: str
    longest: int | None  # places of the longest sentence, its marks counted; None: any length

    def encode_words(self, char_ids: NDArray[np.int32]) -> FloatArray:
        """(words, max_characters) ids, at least one word -> (words, P)."""

    def run_bilm(
        self, inputs: BiLmInputs, outputs: Sequence[str], *, half: bool = False
    ) -> dict[str, NDArray[np.floating[Any]]]:
        """A batch of at least one sentence and one token -> the outputs asked for, by name.

        half: the caller wants float16, so vectors may come as such; states are float32.
        """

    def close(self) -> None:
        """Give back what the backend holds; no computation is running or follows."""


def choose_precision(bundle: Bundle, precision: str, *, preferred: Sequence[str]) -> str:
    """The precision asked for, or for "auto" the first of `preferred` that the bundle holds.

    Raises BackendUnavailableError if it holds none: another backend may prefer what it does hold.
    """
    held = bundle.precisions
    wanted = preferred if precision == "auto" else (precision,)
    for name in wanted:
        if name in held:
            return name
    raise BackendUnavailableError(
        f"{bundle.path} holds {', '.join(held) or 'no graphs'}, not {' or '.join(wanted)}",
        hint=f"export with --precision {wanted[0]}",
    )
