"""The names of the outputs, and the vectors of a call by those names."""

from __future__ import annotations

import enum
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from elmo_runtime.config import ElmoConfig
from elmo_runtime.errors import InputError
from elmo_runtime.state import State

FloatArray = NDArray[np.floating[Any]]


class Output(enum.StrEnum):
    """TF Hub's names, and AllenNLP's stack of layers; a deeper biLM has lstm_outputs3 and on."""

    WORD_EMB = "word_emb"  # (tokens, P), independent of the context
    LSTM_OUTPUTS1 = "lstm_outputs1"  # (tokens, 2P)
    LSTM_OUTPUTS2 = "lstm_outputs2"
    ELMO = "elmo"  # (tokens, 2P), the mix of all layers
    DEFAULT = "default"  # (2P,) a sentence, the mean of `elmo` over its tokens
    LAYERS = "layers"  # (layers + 1, tokens, 2P); layer 0 is word_emb twice


def output_names(config: ElmoConfig) -> tuple[str, ...]:
    """Every output that an ELMo of this config can give."""
    last = (Output.ELMO, Output.DEFAULT, Output.LAYERS)
    return (Output.WORD_EMB.value, *config.layer_names, *(output.value for output in last))


def checked_outputs(outputs: Iterable[str], config: ElmoConfig) -> tuple[str, ...]:
    """The names asked for, each once, in the order given; one name may stand alone.

    Raises InputError naming the one that this ELMo does not have.
    """
    if isinstance(outputs, str):
        outputs = (outputs,)
    if not isinstance(outputs, Iterable):
        raise InputError(f"outputs is a {type(outputs).__name__}, must be a list of names")
    known = output_names(config)
    wanted = tuple(outputs)
    for name in wanted:
        if not isinstance(name, str) or name not in known:
            raise InputError(f"output {name!r} does not exist", hint=f"use {', '.join(known)}")
    return tuple(str(name) for name in dict.fromkeys(wanted))


def token_shape(output: str, config: ElmoConfig, n_tokens: int) -> tuple[int, ...]:
    """The shape of one sentence's array; `default` has no token axis."""
    if output == Output.WORD_EMB:
        return (n_tokens, config.projection_dim)
    if output == Output.DEFAULT:
        return (config.output_dim,)
    if output == Output.LAYERS:
        return (config.n_layers + 1, n_tokens, config.output_dim)
    return (n_tokens, config.output_dim)


@dataclass(frozen=True, eq=False)
class Embeddings(Mapping[str, Any]):
    """Vectors by output name, the sentences in the order they were given.

    `out["elmo"]` is a list of (tokens, 2P) arrays, `out["default"]` one (sentences, 2P) array;
    with `mixes` the names are `elmo:ner`, `default:ner`. Every array owns its memory.
    """

    vectors: Mapping[str, list[FloatArray] | FloatArray]
    lengths: NDArray[np.int32]  # tokens of each sentence
    config: ElmoConfig
    dtype: np.dtype[np.floating[Any]]
    state: State | None = None  # after the last sentence mark, if the call carried a state

    def __repr__(self) -> str:
        names = ", ".join(self.vectors) or "nothing"
        counts = f"{len(self.lengths)} sentences, {int(self.lengths.sum())} tokens"
        return f"Embeddings of {counts}: {names} ({self.dtype})"

    def __getitem__(self, name: str) -> Any:
        return self.vectors[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.vectors)

    def __len__(self) -> int:
        return len(self.vectors)

    def each(self) -> Iterator[Embeddings]:
        """Yield every sentence as Embeddings of its own, without a state."""
        for row in range(len(self.lengths)):
            one = {name: _own_row(vectors, row) for name, vectors in self.vectors.items()}
            yield Embeddings(one, self.lengths[row : row + 1].copy(), self.config, self.dtype)

    def padded(self, name: str) -> FloatArray:
        """(sentences, longest, D), 0 past each length; layers: (sentences, layers, longest, D).

        `default` has no token axis and comes back as it is.
        """
        vectors = self.vectors[name]
        if isinstance(vectors, np.ndarray):
            return vectors
        longest = int(self.lengths.max(initial=0))
        shape = token_shape(name.partition(":")[0], self.config, longest)
        padded = np.zeros((len(vectors), *shape), self.dtype)
        for row, vector in zip(padded, vectors, strict=True):
            row[..., : vector.shape[-2], :] = vector
        return padded


def _own_row(vectors: list[FloatArray] | FloatArray, row: int) -> list[FloatArray] | FloatArray:
    """One sentence; of an array a copy, for a view would keep all sentences in memory."""
    one = vectors[row : row + 1]
    return one.copy() if isinstance(one, np.ndarray) else one
