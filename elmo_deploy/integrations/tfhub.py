"""TF Hub's ELMo module as a callable: the same signatures, inputs and outputs, without TensorFlow.

Outputs are numpy arrays. Inside a tf.function it cannot be called.

Examples:
    >>> from elmo_deploy.integrations import tfhub as hub
    >>> elmo = hub.Module("bundle", trainable=False)  # doctest: +SKIP
    >>> elmo(["the cat is on the mat"], signature="default", as_dict=True)["elmo"].shape
    ... # doctest: +SKIP
    (1, 6, 1024)
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from elmo_runtime.embedder import Embedder
from elmo_runtime.errors import InputError

SIGNATURES = ("default", "tokens")
Outputs = dict[str, NDArray[Any]]


class Module:
    """`hub.Module(path)` of a bundle; close it, or use it in a `with` statement.

    trainable must be False; name and tags are accepted and ignored. Other arguments are those of
    `Embedder.load`.
    """

    def __init__(
        self,
        spec: str | Path,
        trainable: bool = False,
        name: str | None = None,
        tags: object = None,
        **options: Any,
    ) -> None:
        if trainable:
            raise InputError(
                "a bundle cannot be trained",
                hint="train elmo_deploy.Elmo, or a layer on the output layer_means",
            )
        self._embedder = Embedder.load(spec, **options)
        self.signatures: Mapping[str, Callable[..., Outputs]] = {
            "default": self._default,
            "tokens": self._tokens,
        }

    def __call__(self, inputs: Any, signature: str = "default", as_dict: bool = False) -> Any:
        """Texts, or {"tokens": ..., "sequence_len": ...} -> every output, or only `default`.

        Texts are split at spaces. `tokens` has the shape (batch, length); `sequence_len` (batch,)
        is the number of real tokens per row. Texts and tokens are lists, arrays or eager tensors
        of str or UTF-8 bytes.

        The outputs are `word_emb` (batch, length, P), `lstm_outputs1`, `lstm_outputs2` and `elmo`
        (batch, length, 2P), `default` (batch, 2P) and `sequence_len` (batch,). Raises InputError.
        """
        if signature not in self.signatures:
            raise InputError(f"signature is {signature!r}", hint=f"use one of {SIGNATURES}")
        named = inputs if isinstance(inputs, Mapping) else {_FIRST[signature]: inputs}
        try:
            outputs = self.signatures[signature](**named)
        except TypeError as error:
            if "argument" not in str(error):
                raise
            raise InputError(
                f"the signature {signature} does not take {', '.join(map(str, named))}",
                hint='pass {"tokens": ..., "sequence_len": ...} to the signature tokens',
            ) from error
        return outputs if as_dict else outputs["default"]

    def get_signature_names(self) -> list[str]:
        """The names of the signatures."""
        return list(SIGNATURES)

    def close(self) -> None:
        """Close the bundle."""
        self._embedder.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: object, trace: TracebackType | None
    ) -> None:
        self.close()

    def _default(self, text: Any) -> Outputs:
        texts = _strings(text)
        if texts.ndim != 1:
            raise InputError(f"the texts have {texts.ndim} dimensions, must have 1")
        return self._embed(texts.tolist(), None)

    def _tokens(self, tokens: Any, sequence_len: Any) -> Outputs:
        rows = _strings(tokens)
        if rows.ndim != 2:
            raise InputError(
                f"tokens has {rows.ndim} dimensions, must have 2", hint='pad short rows with ""'
            )
        lengths = np.asarray(_numpy(sequence_len))
        batch, width = rows.shape
        if lengths.shape != (batch,) or lengths.dtype.kind not in "iu":
            raise InputError(
                f"sequence_len is {lengths.dtype} of shape {lengths.shape},"
                f" must be {batch} integers"
            )
        if batch and (lengths.min() < 0 or lengths.max() > width):
            raise InputError(
                f"sequence_len is {lengths.min()}..{lengths.max()} for rows of {width} tokens"
            )
        cut = [row[:length].tolist() for row, length in zip(rows, lengths, strict=True)]
        return self._embed(cut, width)

    def _embed(self, sentences: list[Any], width: int | None) -> Outputs:
        """Every output; width: the length of the outputs, by default that of the longest row."""
        layers = self._embedder.config.layer_names
        names = ("word_emb", *layers, "elmo", "default")
        found = self._embedder.embed(sentences, outputs=names)
        outputs: Outputs = {
            name: _widened(found.padded(name), width) for name in ("word_emb", *layers, "elmo")
        }
        outputs["default"] = np.asarray(found["default"])
        outputs["sequence_len"] = np.asarray(found.lengths, np.int32)
        return outputs


_FIRST = {"default": "text", "tokens": "tokens"}


def load(handle: str | Path, **options: Any) -> Module:
    """`hub.load(path)`: the module, whose `signatures` take keyword arguments and tensors."""
    return Module(handle, **options)


def _numpy(value: Any) -> Any:
    """The array of an eager tensor; anything else as it is."""
    return value.numpy() if hasattr(value, "numpy") else value


def _strings(value: Any) -> NDArray[np.object_]:
    """Lists, arrays or eager tensors of str or bytes -> an object array of str."""
    array = np.asarray(_numpy(value), object)
    if any(isinstance(item, list | tuple) for item in array.flat):
        raise InputError(
            "the rows have different lengths", hint='pad short rows with "" and pass sequence_len'
        )
    decoded = np.empty(array.shape, object)
    for place, item in np.ndenumerate(array):
        decoded[place] = _decoded(item)
    return decoded


def _decoded(item: object) -> str:
    if isinstance(item, bytes):
        try:
            return item.decode("utf-8")
        except UnicodeDecodeError as error:
            raise InputError(f"{item!r} is not UTF-8") from error
    if isinstance(item, str):
        return str(item)
    raise InputError(f"{item!r} is a {type(item).__name__}, must be str or bytes")


def _widened(array: NDArray[Any], width: int | None) -> NDArray[Any]:
    """(batch, length, size) with zeros up to the width."""
    if width is None:
        return array
    return np.pad(array, [(0, 0), (0, width - array.shape[1]), (0, 0)])
