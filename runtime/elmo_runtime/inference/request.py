"""The outputs, layer mixes and dtype of a call, checked before anything runs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from elmo_runtime.config import ElmoConfig
from elmo_runtime.errors import InputError
from elmo_runtime.mixes import Mixes
from elmo_runtime.outputs import STACKED, Output, checked_outputs, output_names

DTYPES = ("float32", "float16")
MIXED = (Output.ELMO, Output.DEFAULT)


@dataclass(frozen=True, kw_only=True)
class OutputSpec:
    """One set of vectors: its key in the result, and the output and mix that give it."""

    key: str
    output: str
    mix: int | None  # the index of the mix, if the output has mixes


@dataclass(frozen=True, kw_only=True)
class Request:
    """The checked arguments of one call."""

    outputs: tuple[str, ...]
    mixes: Mixes
    dtype: np.dtype[np.floating[Any]]

    @classmethod
    def of(
        cls, config: ElmoConfig, *, outputs: Iterable[str], mixes: Mixes, dtype: DTypeLike
    ) -> Request:
        """Check the names. Raises InputError if an output or the dtype does not exist."""
        return cls(outputs=checked_outputs(outputs, config), mixes=mixes, dtype=_dtype(dtype))

    def graph_outputs(self, config: ElmoConfig) -> tuple[str, ...]:
        """The outputs that the biLM computes. word_emb is known before the biLM runs."""
        wanted = set(self.outputs) - {Output.WORD_EMB} - STACKED
        if STACKED & set(self.outputs):
            wanted.update(config.layer_names)
        return tuple(name for name in output_names(config) if name in wanted)

    def specs(self) -> Iterator[OutputSpec]:
        """Yield every set of vectors of the result, in the requested order."""
        for output in self.outputs:
            if output not in MIXED:
                yield OutputSpec(key=output, output=output, mix=None)
                continue
            for mix, name in enumerate(self.mixes.names):
                yield OutputSpec(key=f"{output}:{name}" if name else output, output=output, mix=mix)


def _dtype(dtype: DTypeLike) -> np.dtype[np.floating[Any]]:
    try:
        name = np.dtype(dtype).name
    except TypeError as error:
        raise InputError(f"dtype {dtype!r} does not exist", hint=f"use {DTYPES}") from error
    if name not in DTYPES:
        raise InputError(f"dtype is {name}", hint=f"use one of {', '.join(DTYPES)}")
    return np.dtype(name)
