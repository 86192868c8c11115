"""Which arrays of a published file become which tensors of a checkpoint, and the checks for all.

It describes the layouts as values and is independent of the file formats.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from elmo_runtime.characters import N_CHARACTERS
from elmo_runtime.errors import WeightsError

Array = NDArray[np.float32]
OTHER_OPTIONS = "do the options belong to these weights?"


@dataclass(frozen=True)
class Layout:
    """How one array of a file and the tensors of a checkpoint store the same numbers."""

    to_model: Callable[[Array], Sequence[Array]]
    to_file: Callable[..., Array]


AS_IS = Layout(lambda x: (x,), lambda x: x)
TRANSPOSED = Layout(lambda x: (x.T,), lambda x: x.T)  # TensorFlow: x @ W, torch: x @ W.T
CONVOLUTION = Layout(lambda x: (x[0].T,), lambda x: x.T[np.newaxis])  # (1, w, d, n) <-> (n, d, w)
STACKED = Layout(lambda x: np.split(x, 2), lambda *parts: np.concatenate(parts))


@dataclass(frozen=True)
class ArraySpec:
    """An array of the file, its shape there, and the tensors that it becomes.

    padded: the array may start with one more row, for "no character", which must be zeros.
    """

    name: str
    shape: tuple[int, ...]
    layout: Layout
    tensors: tuple[str, ...]
    padded: bool = False

    def check_shape(self, shape: tuple[int, ...]) -> None:
        """Raise WeightsError unless the array in the file has the shape that it must have."""
        if shape != self.shape and not (self.padded and shape == self._padded_shape):
            raise WeightsError(
                f"{self.name} is {shape}, the options say {self.shape}", hint=OTHER_OPTIONS
            )

    def check_values(self, values: NDArray[Any]) -> Array:
        """The array as float32 without its padding row. Raises WeightsError.

        A value is refused if float32 cannot represent it as a finite number.
        """
        if values.dtype.kind != "f":
            raise WeightsError(f"{self.name} contains {values.dtype}, must be float32")
        with np.errstate(over="ignore"):  # A value beyond float32 becomes infinite and is refused.
            array = values.astype(np.float32, copy=False)
        if not np.isfinite(array).all():
            raise WeightsError(f"{self.name} contains a value that is not finite")
        return self._without_padding(array) if array.shape != self.shape else array

    @property
    def _padded_shape(self) -> tuple[int, ...]:
        return (self.shape[0] + 1, *self.shape[1:])

    def _without_padding(self, array: Array) -> Array:
        if array[0].any():
            raise WeightsError(
                f"{self.name} has {N_CHARACTERS} rows, but row 0 is not the padding row of zeros"
            )
        return array[1:]


def read_tensors(
    entries: Iterable[ArraySpec], read: Callable[[ArraySpec], Array]
) -> dict[str, Array]:
    """The tensors of a checkpoint; `read` returns the checked array of an entry."""
    tensors: dict[str, Array] = {}
    for entry in entries:
        parts = entry.layout.to_model(read(entry))
        tensors |= zip(entry.tensors, map(np.ascontiguousarray, parts), strict=True)
    return tensors


def missing(entry: ArraySpec, kind: str) -> WeightsError:
    """The error for an array that the file does not contain; `kind` is the format's own word."""
    return WeightsError(
        f"{kind} {entry.name} of shape {entry.shape} is missing", hint=OTHER_OPTIONS
    )


def refuse_unexpected(found: Iterable[str], wanted: Iterable[str]) -> None:
    """Raise WeightsError for an array that the options do not describe, such as another layer."""
    unexpected = sorted(set(found) - set(wanted))
    if unexpected:
        raise WeightsError(
            f"{unexpected[0]} has no place in a model of these options", hint=OTHER_OPTIONS
        )
