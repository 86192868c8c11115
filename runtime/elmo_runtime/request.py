"""What a call asks for: outputs, layer mixes and dtype, checked before anything runs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from elmo_runtime.config import ElmoConfig
from elmo_runtime.errors import InputError
from elmo_runtime.outputs import Output, checked_outputs, output_names

DTYPES = ("float32", "float16")
MIXED = (Output.ELMO, Output.DEFAULT)
# Trained ones are between 0.1 and 10. With this one the sum over 100,000 tokens stays in float32
# for layers of values up to 1e26.
LARGEST_GAMMA = 1e6
Mix = tuple[Sequence[float], float]  # weights before the softmax, gamma


@dataclass(frozen=True)
class Mixes:
    """Layer mixes of one pass: weights (mixes, layers + 1) before the softmax, gamma (mixes,).

    No |gamma| is above LARGEST_GAMMA.
    The only mix of a call without names is called "": its output is `elmo`, not `elmo:name`.
    """

    names: tuple[str, ...]
    weights: NDArray[np.float32]
    gamma: NDArray[np.float32]

    @classmethod
    def of(
        cls,
        config: ElmoConfig,
        *,
        mix_weights: Sequence[float] | None = None,
        gamma: float = 1.0,
        mixes: Mapping[str, Mix] | None = None,
    ) -> Mixes:
        """The mixes that a call describes; without weights every layer has the same share."""
        if mixes is None:
            equal_shares = (0.0,) * (config.n_layers + 1)
            named: Mapping[str, Mix] = {
                "": (equal_shares if mix_weights is None else mix_weights, gamma)
            }
        elif mix_weights is not None or gamma != 1.0:
            raise InputError(
                "mixes are given beside mix_weights or gamma", hint="each mix brings its own"
            )
        else:
            named = _checked_names(mixes)
        weights = [
            _finite(f"mix_weights {name}", w, (config.n_layers + 1,))
            for name, (w, _) in named.items()
        ]
        gammas = [_gamma(f"gamma {name}".strip(), g) for name, (_, g) in named.items()]
        return cls(tuple(named), np.stack(weights), np.stack(gammas))


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


def _checked_names(mixes: object) -> Mapping[str, Mix]:
    if isinstance(mixes, Mapping) and mixes:
        pairs = [isinstance(mix, tuple | list) and len(mix) == 2 for mix in mixes.values()]
        if all(pairs) and all(isinstance(name, str) and name for name in mixes):
            return mixes
    raise InputError('mixes must be a dict like {"ner": (weights, gamma)}')


def _finite(what: str, value: object, shape: tuple[int, ...]) -> NDArray[np.float32]:
    try:
        with np.errstate(over="ignore"):  # what float32 cannot hold turns inf and is refused
            array = np.asarray(value, np.float32)
    except (TypeError, ValueError, OverflowError, RuntimeError) as error:
        raise InputError(f"{what.strip()} is not numbers: {error}") from error
    if array.shape != shape or not np.isfinite(array).all():
        raise InputError(f"{what.strip()} is {value!r}, must be finite numbers of shape {shape}")
    return array


def _gamma(what: str, value: object) -> NDArray[np.float32]:
    gamma = _finite(what, value, ())
    if abs(gamma) > LARGEST_GAMMA:  # float32 would overflow: finite inputs, infinite vectors
        raise InputError(f"{what} is {value!r}, must be within {LARGEST_GAMMA:g} of 0")
    return gamma


def _dtype(dtype: DTypeLike) -> np.dtype[np.floating[Any]]:
    try:
        name = np.dtype(dtype).name
    except TypeError as error:
        raise InputError(f"dtype {dtype!r} does not exist", hint=f"use {DTYPES}") from error
    if name not in DTYPES:
        raise InputError(f"dtype is {name}", hint=f"use one of {', '.join(DTYPES)}")
    return np.dtype(name)
