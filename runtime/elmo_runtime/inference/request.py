"""What a call asks for: outputs and dtype, beside its layer mixes, checked before anything runs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from elmo_runtime.config import ElmoConfig
from elmo_runtime.errors import InputError
from elmo_runtime.mixes import Mixes
from elmo_runtime.outputs import Output, checked_outputs, output_names

DTYPES = ("float32", "float16")
MIXED = (Output.ELMO, Output.DEFAULT)


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """One set of vectors: the key under which the caller finds it, and where it comes from."""

    key: str
    output: str
    mix: int | None  # the number of the mix, where the output has mixes


@dataclass(frozen=True, kw_only=True)
class Request:
    """Checked wishes of one call."""

    outputs: tuple[str, ...]
    mixes: Mixes
    dtype: np.dtype[np.floating[Any]]

    @classmethod
    def of(
        cls, config: ElmoConfig, *, outputs: Iterable[str], mixes: Mixes, dtype: DTypeLike
    ) -> Request:
        """Raises InputError naming the output or the dtype that does not exist."""
        return cls(outputs=checked_outputs(outputs, config), mixes=mixes, dtype=_dtype(dtype))

    def graph_outputs(self, config: ElmoConfig) -> tuple[str, ...]:
        """What the biLM must compute. word_emb is not among it: it is known before."""
        wanted = set(self.outputs) - {Output.WORD_EMB, Output.LAYERS}
        if Output.LAYERS in self.outputs:
            wanted.update(config.layer_names)
        return tuple(name for name in output_names(config) if name in wanted)

    def wanted(self) -> Iterator[Wanted]:
        """Yield everything that the caller gets, in the order asked for."""
        for output in self.outputs:
            if output not in MIXED:
                yield Wanted(key=output, output=output, mix=None)
                continue
            for mix, name in enumerate(self.mixes.names):
                yield Wanted(key=f"{output}:{name}" if name else output, output=output, mix=mix)


def _dtype(dtype: DTypeLike) -> np.dtype[np.floating[Any]]:
    try:
        name = np.dtype(dtype).name
    except TypeError as error:
        raise InputError(f"dtype {dtype!r} does not exist", hint=f"use {DTYPES}") from error
    if name not in DTYPES:
        raise InputError(f"dtype is {name}", hint=f"use one of {', '.join(DTYPES)}")
    return np.dtype(name)
