"""The names of the outputs, and the vectors of one call by name."""

from __future__ import annotations

import enum
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol, overload

import numpy as np
from numpy.typing import NDArray

from elmo_runtime.config import ElmoConfig
from elmo_runtime.errors import InputError
from elmo_runtime.state import State

FloatArray = NDArray[np.floating[Any]]


class Output(enum.StrEnum):
    """The names of TF Hub, and the layers of AllenNLP; a deeper biLM also has lstm_outputs3, ..."""

    WORD_EMB = "word_emb"  # (tokens, P), independent of the context
    LSTM_OUTPUTS1 = "lstm_outputs1"  # (tokens, 2P)
    LSTM_OUTPUTS2 = "lstm_outputs2"
    ELMO = "elmo"  # (tokens, 2P), the mix of all layers
    DEFAULT = "default"  # (2P,) per sentence, the mean of `elmo` over its tokens
    LAYERS = "layers"  # (layers + 1, tokens, 2P); layer 0 is word_emb, repeated
    LAYER_MEANS = "layer_means"  # (layers + 1, 2P) per sentence, the mean of `layers`


POOLED = frozenset({Output.DEFAULT, Output.LAYER_MEANS})  # one array per sentence, no token axis
STACKED = frozenset({Output.LAYERS, Output.LAYER_MEANS})  # no graph computes these


class Rows(Protocol):
    """One array per sentence: a list where lengths differ, otherwise an array with one row each."""

    def __len__(self) -> int:
        """The number of sentences."""

    def __getitem__(self, sentence: int, /) -> FloatArray:
        """The vectors of one sentence."""

    def __iter__(self) -> Iterator[FloatArray]:
        """Yield the vectors of each sentence."""


def output_names(config: ElmoConfig) -> tuple[str, ...]:
    """Every output of an ELMo with this config."""
    last = (Output.ELMO, Output.DEFAULT, Output.LAYERS, Output.LAYER_MEANS)
    return (Output.WORD_EMB.value, *config.layer_names, *(output.value for output in last))


def checked_outputs(outputs: Iterable[str], config: ElmoConfig) -> tuple[str, ...]:
    """The requested names without repetitions, in the given order; a single name is accepted.

    Raises InputError with the first name that this ELMo does not have.
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


def is_pooled(key: str) -> bool:
    """Whether an output, such as `default` or `default:ner`, has one array per sentence."""
    return key.partition(":")[0] in POOLED


def token_shape(output: str, config: ElmoConfig, n_tokens: int) -> tuple[int, ...]:
    """The shape of the array of one sentence; pooled outputs have no token axis."""
    if output == Output.WORD_EMB:
        return (n_tokens, config.projection_dim)
    if output == Output.DEFAULT:
        return (config.output_dim,)
    if output == Output.LAYER_MEANS:
        return (config.n_layers + 1, config.output_dim)
    if output == Output.LAYERS:
        return (config.n_layers + 1, n_tokens, config.output_dim)
    return (n_tokens, config.output_dim)


def column_width(output: str, config: ElmoConfig) -> int:
    """The size of one vector in a column of a table; `layer_means` is flattened, row by row."""
    shape = token_shape(output, config, 0)
    return math.prod(shape) if is_pooled(output) else shape[-1]


@dataclass(frozen=True, eq=False)
class Embeddings(Mapping[str, Rows]):
    """Vectors by output name; sentences are in the order of the call.

    An attribute or `out[name]` gives an output that the call requested. `out["elmo:ner"]` and
    `out["default:ner"]` give the outputs of a mix that `mixes` named. Each list has one array per
    sentence, and every array owns its memory. The order of the layers is from the token vectors up.

    Attributes:
        vectors: The arrays by output name.
        lengths: The number of tokens of each sentence, shape (sentences,).
        config: The options of the ELMo.
        dtype: float32 or float16.
        state: The state after the last boundary token, if the call carried a state.

    Examples:
        >>> import numpy as np
        >>> vectors = [np.ones((3, 4), np.float32), np.ones((1, 4), np.float32)]
        >>> out = Embeddings({"elmo": vectors}, np.array([3, 1]), None, np.dtype("float32"))
        >>> out.elmo[1].shape
        (1, 4)
        >>> "default" in out
        False
    """

    vectors: Mapping[str, list[FloatArray] | FloatArray]
    lengths: NDArray[np.int32]
    config: ElmoConfig
    dtype: np.dtype[np.floating[Any]]
    state: State | None = None

    def __repr__(self) -> str:
        names = ", ".join(self.vectors) or "nothing"
        counts = f"{len(self.lengths)} sentences, {int(self.lengths.sum())} tokens"
        return f"Embeddings of {counts}: {names} ({self.dtype})"

    @property
    def elmo(self) -> list[FloatArray]:
        """The mix of all layers, (tokens, 2P) per sentence."""
        return self["elmo"]

    @property
    def default(self) -> FloatArray:
        """The mean of `elmo` over the tokens, (sentences, 2P)."""
        return self["default"]

    @property
    def word_emb(self) -> list[FloatArray]:
        """The token vectors, (tokens, P) per sentence."""
        return self["word_emb"]

    @property
    def layers(self) -> list[FloatArray]:
        """All layers, (layers + 1, tokens, 2P) per sentence; layer 0 repeats the token vectors."""
        return self["layers"]

    @property
    def layer_means(self) -> FloatArray:
        """The mean of each layer over the tokens, (sentences, layers + 1, 2P)."""
        return self["layer_means"]

    @overload
    def __getitem__(
        self, name: Literal["elmo", "word_emb", "layers", "lstm_outputs1", "lstm_outputs2"]
    ) -> list[FloatArray]: ...
    @overload
    def __getitem__(self, name: Literal["default", "layer_means"]) -> FloatArray: ...
    @overload
    def __getitem__(self, name: str) -> Rows: ...
    def __getitem__(self, name: str) -> Rows:
        try:
            return self.vectors[name]
        except KeyError:
            names = ", ".join(self.vectors) or "none"
            raise KeyError(f"output {name!r} was not requested; the call gave {names}") from None

    def __iter__(self) -> Iterator[str]:
        return iter(self.vectors)

    def __len__(self) -> int:
        return len(self.vectors)

    def each(self) -> Iterator[Embeddings]:
        """Yield each sentence as separate Embeddings, without a state."""
        for row in range(len(self.lengths)):
            one = {name: _own_row(vectors, row) for name, vectors in self.vectors.items()}
            yield Embeddings(one, self.lengths[row : row + 1].copy(), self.config, self.dtype)

    def padded(self, name: str) -> FloatArray:
        """One array for all sentences, with zeros past each length.

        Args:
            name: An output that the call requested.

        Returns:
            (sentences, longest, D); for `layers` (sentences, layers + 1, longest, 2P). Outputs with
            one array per sentence are returned unchanged.

        Raises:
            KeyError: The call did not request this output.
        """
        vectors = self[name]
        if isinstance(vectors, np.ndarray):
            return vectors
        longest = int(self.lengths.max(initial=0))
        shape = token_shape(name.partition(":")[0], self.config, longest)
        padded = np.zeros((len(vectors), *shape), self.dtype)
        for row, vector in zip(padded, vectors, strict=True):
            row[..., : vector.shape[-2], :] = vector
        return padded


def _own_row(vectors: list[FloatArray] | FloatArray, row: int) -> list[FloatArray] | FloatArray:
    """One sentence. An array is copied, because a view would keep all sentences in memory."""
    one = vectors[row : row + 1]
    return one.copy() if isinstance(one, np.ndarray) else one
