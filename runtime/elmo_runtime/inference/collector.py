"""Padded batches -> the vectors of each sentence, in the order of the call."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from elmo_runtime.config import ElmoConfig
from elmo_runtime.float16 import FP16_MAX
from elmo_runtime.inference.request import OutputSpec, Request
from elmo_runtime.outputs import STACKED, Embeddings, FloatArray, Output, is_pooled, token_shape
from elmo_runtime.state import State


class Collector:
    """Collects the outputs of batches. A sentence without tokens gets empty arrays or zeros."""

    def __init__(self, request: Request, config: ElmoConfig, lengths: NDArray[np.int32]) -> None:
        self._request, self._config, self._lengths = request, config, lengths
        self._vectors = {spec.key: self._blank(spec.output) for spec in request.specs()}

    def add(self, rows: NDArray[np.intp], computed: Mapping[str, FloatArray]) -> None:
        """Add the outputs of a batch, ([mixes,] batch, length, ...), whose sentences are `rows`."""
        for spec in self._request.specs():
            padded = self._pick(spec, rows, computed)
            vectors = self._vectors[spec.key]
            if isinstance(vectors, np.ndarray):
                vectors[rows] = self._cast(padded)
                continue
            for row, sentence in zip(rows, padded, strict=True):
                vectors[row] = self._cast(sentence[..., : self._lengths[row], :])

    def finish(self, state: State | None) -> Embeddings:
        """The result of the call."""
        return Embeddings(self._vectors, self._lengths, self._config, self._request.dtype, state)

    def _blank(self, output: str) -> list[FloatArray] | FloatArray:
        shape = token_shape(output, self._config, 0)
        if is_pooled(output):
            return np.zeros((len(self._lengths), *shape), self._request.dtype)
        return [np.zeros(shape, self._request.dtype) for _ in self._lengths]

    def _pick(
        self, spec: OutputSpec, rows: NDArray[np.intp], computed: Mapping[str, FloatArray]
    ) -> FloatArray:
        """(batch, ...), padded unless the output is pooled."""
        if spec.mix is not None:
            mixed: FloatArray = computed[spec.output][spec.mix]
            return mixed
        if spec.output not in STACKED:
            return computed[spec.output]
        tokens = computed[Output.WORD_EMB]
        contextual = [computed[name] for name in self._config.layer_names]
        layers = np.stack([np.concatenate([tokens, tokens], axis=-1), *contextual], axis=1)
        return layers if spec.output == Output.LAYERS else _means(layers, self._lengths[rows])

    def _cast(self, vectors: FloatArray) -> FloatArray:
        """A copy, so that one sentence does not keep its batch in memory."""
        if self._request.dtype == np.float16 and vectors.dtype != np.float16:
            vectors = np.clip(vectors, -FP16_MAX, FP16_MAX)
        return np.array(vectors, self._request.dtype)


def _means(layers: FloatArray, lengths: NDArray[np.int32]) -> NDArray[np.float32]:
    """(batch, layers + 1, length, 2P) -> (batch, layers + 1, 2P); no tokens give zeros.

    Each sentence is summed without its padding, so that the batch does not change the bits.
    """
    means = np.zeros((*layers.shape[:2], layers.shape[-1]), np.float32)
    for mean, sentence, length in zip(means, layers, lengths, strict=True):
        if length:
            tokens = np.ascontiguousarray(sentence[:, :length], np.float32)
            mean[:] = tokens.sum(axis=1) / np.float32(length)
    return means
