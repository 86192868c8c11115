"""The real CPU backend in a wrapper that counts, complains or runs out of memory."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from elmo_runtime.backends.base import BackendOptions, BiLmInputs
from elmo_runtime.backends.onnxruntime.backend import open_cpu
from elmo_runtime.bundle.manifest import Bundle

Before = Callable[[BiLmInputs], object]


class Watched:
    """A backend with another name; `before` receives the inputs of every batch and may raise."""

    def __init__(self, bundle: Path, *, name: str = "watched", before: Before) -> None:
        self._backend = open_cpu(Bundle.open(bundle), "fp32", BackendOptions(threads=1))
        self.name, self.precision = name, self._backend.precision
        self.longest = self._backend.longest
        self._before = before
        self.closed = 0

    def encode_words(self, char_ids: NDArray[np.int32]) -> NDArray[np.float32]:
        assert len(char_ids) > 0, "the backend was called with no words"
        return self._backend.encode_words(char_ids)

    def run_bilm(
        self, inputs: BiLmInputs, outputs: Sequence[str], *, half: bool = False
    ) -> dict[str, NDArray[Any]]:
        rows, length = inputs.word_index.shape
        assert rows > 0 and length > 2, f"the backend was called with {rows} rows, length {length}"
        self._before(inputs)
        return self._backend.run_bilm(inputs, outputs, half=half)

    def close(self) -> None:
        self.closed += 1
        self._backend.close()
