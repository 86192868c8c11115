"""Padded batches -> the vectors of each sentence, in the order of the call."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from elmo_runtime.config import ElmoConfig
from elmo_runtime.float16 import FP16_MAX
from elmo_runtime.inference.request import Request, Wanted
from elmo_runtime.outputs import Embeddings, FloatArray, Output, token_shape
from elmo_runtime.state import State


class Ragged:
    """Collects batch after batch; a sentence that no batch brings keeps no tokens or zeros."""

    def __init__(self, request: Request, config: ElmoConfig, lengths: NDArray[np.int32]) -> None:
        self._request, self._config, self._lengths = request, config, lengths
        self._vectors = {wanted.key: self._blank(wanted.output) for wanted in request.wanted()}

    def add(self, rows: NDArray[np.intp], computed: Mapping[str, FloatArray]) -> None:
        """Take the outputs of a batch, (batch, length, ...) or with mixes before; rows (batch,)."""
        for wanted in self._request.wanted():
            padded = self._pick(wanted, computed)
            vectors = self._vectors[wanted.key]
            if isinstance(vectors, np.ndarray):
                vectors[rows] = self._cast(padded)
                continue
            for row, sentence in zip(rows, padded, strict=True):
                vectors[row] = self._cast(sentence[..., : self._lengths[row], :])

    def finish(self, state: State | None) -> Embeddings:
        """Everything collected."""
        return Embeddings(self._vectors, self._lengths, self._config, self._request.dtype, state)

    def _blank(self, output: str) -> list[FloatArray] | FloatArray:
        shape = token_shape(output, self._config, 0)
        if output == Output.DEFAULT:
            return np.zeros((len(self._lengths), *shape), self._request.dtype)
        return [np.zeros(shape, self._request.dtype) for _ in self._lengths]

    def _pick(self, wanted: Wanted, computed: Mapping[str, FloatArray]) -> FloatArray:
        if wanted.mix is not None:
            mixed: FloatArray = computed[wanted.output][wanted.mix]
            return mixed
        if wanted.output != Output.LAYERS:
            return computed[wanted.output]
        tokens = computed[Output.WORD_EMB]
        contextual = [computed[name] for name in self._config.layer_names]
        return np.stack([np.concatenate([tokens, tokens], axis=-1), *contextual], axis=1)

    def _cast(self, vectors: FloatArray) -> FloatArray:
        """A copy, so that one sentence does not keep its whole batch in memory."""
        if self._request.dtype == np.float16 and vectors.dtype != np.float16:
            vectors = np.clip(vectors, -FP16_MAX, FP16_MAX)
        return np.array(vectors, self._request.dtype)
