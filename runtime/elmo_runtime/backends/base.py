"""The interface of a backend: words, batches and arrays, independent of any library."""

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
    """How a backend may use the machine. A backend ignores the options that do not concern it."""

    threads: int | None = None  # None: one per core that this process may use
    spinning: bool = True  # idle threads busy-wait: faster, but they keep their cores busy
    gpu_mem_limit: int | None = None  # bytes of device memory that ONNX Runtime may take
    trusted_engines: tuple[str, ...] = ()  # digests of engines built elsewhere that may be opened


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
    # (words,), see word_cache.IdentifiedWords; None: no vector may be kept
    word_ids: NDArray[np.int64] | None = None
    layer_norm: FloatArray | None = None  # (mixes,), if a mix of the bundle has a layer norm

    def of_graph(self) -> dict[str, NDArray[Any]]:
        """The inputs of the graph, by name."""
        given = {name: array for name, array in vars(self).items() if name != "word_ids"}
        return {name: array for name, array in given.items() if array is not None}

    def of_mixes(self) -> dict[str, FloatArray]:
        """The inputs of the graph that describe the layer mixes, by name."""
        names = ("mix_weights", "gamma", "layer_norm")
        given = self.of_graph()
        return {name: given[name] for name in names if name in given}


class Backend(Protocol):
    """An open bundle on one device. Any number of threads may compute at the same time.

    Both computations raise BackendError, or DeviceMemoryError if a smaller batch may still work.
    """

    name: str  # the name by which a caller requests it, e.g. "onnxruntime-cpu"
    precision: str
    longest: int | None  # positions of the longest sentence that fits; None: any

    def encode_words(self, char_ids: NDArray[np.int32]) -> FloatArray:
        """(words, max_characters) ids, at least one word -> (words, P)."""

    def run_bilm(
        self, inputs: BiLmInputs, outputs: Sequence[str], *, half: bool = False
    ) -> dict[str, NDArray[np.floating[Any]]]:
        """A batch of at least one sentence and one token -> the requested outputs, by name.

        half: the caller needs float16 only, so vectors may be float16. States are float32.
        """

    def close(self) -> None:
        """Free the memory and threads of the backend; no computation is running or follows."""


def choose_precision(bundle: Bundle, precision: str, *, preferred: Sequence[str]) -> str:
    """The requested precision, or for "auto" the first of `preferred` that the bundle contains.

    Raises BackendUnavailableError if it contains none; another backend may support the others.
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
