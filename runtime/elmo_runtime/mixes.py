"""Layer mixes: the named mixes of a bundle, and the mixes of one call."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from elmo_runtime.config import ElmoConfig
from elmo_runtime.errors import InputError

# Trained values are between 0.1 and 10. With this limit the sum over 100,000 tokens stays in the
# range of float32 for layers with values up to 1e26.
LARGEST_GAMMA = 1e6
LAYER_NORM_EPSILON = 1e-12  # bilm-tf's and AllenNLP's
FloatArray = NDArray[np.float32]
Mix = tuple[Sequence[float], float]  # weights before the softmax, gamma


@dataclass(frozen=True, kw_only=True)
class NamedMix:
    """A mix that was trained with the model: gamma * sum_k softmax(weights)_k layer_k.

    layer_norm: each layer is first normalized to mean 0 and variance 1 over the sentence.
    """

    name: str
    weights: tuple[float, ...]  # (layers + 1,), before the softmax
    gamma: float
    layer_norm: bool = False


def check_mixes(mixes: Sequence[NamedMix], config: ElmoConfig) -> None:
    """Raise InputError for a mix that no call could use, and for a name that two mixes have."""
    for mix in mixes:
        if not (mix.name and mix.name.isprintable() and mix.name.strip() == mix.name):
            raise InputError(
                f"layer mix {mix.name!r}: a name is printable text without spaces at its ends"
            )
    names = [mix.name for mix in mixes]
    if len(set(names)) < len(names):
        raise InputError(f"two layer mixes have one name: {', '.join(names)}")
    if mixes:
        Mixes.stacked(config, mixes, with_layer_norm=False)


@dataclass(frozen=True)
class Mixes:
    """Layer mixes of one pass: weights (mixes, layers + 1) before the softmax, gamma (mixes,).

    No |gamma| is above LARGEST_GAMMA. The only mix of a call without names is called "": its
    output is `elmo`, not `elmo:name`. layer_norm (mixes,) is 1 where a mix normalizes its layers;
    it is None where no graph of the bundle can do that.
    """

    names: tuple[str, ...]
    weights: FloatArray
    gamma: FloatArray
    layer_norm: FloatArray | None = None

    def __repr__(self) -> str:
        return f"Mixes of {self.weights.shape[1]} layers: {len(self.names)} mixes"

    @classmethod
    def of(
        cls,
        config: ElmoConfig,
        stored: Sequence[NamedMix] = (),
        *,
        mix: str | None = None,
        mix_weights: Sequence[float] | None = None,
        gamma: float | None = None,
        mixes: Mapping[str, Mix] | Sequence[str] | None = None,
    ) -> Mixes:
        """The mixes that a call describes; `stored` are those of the bundle, its default first.

        Without mix_weights, mix and mixes the call gets the default; a bundle that stores none
        gives every layer the same weight. A gamma replaces that of the mix. Raises InputError.
        """
        if mixes is not None:
            if (mix, mix_weights, gamma) != (None, None, None):
                raise InputError(
                    "mixes cannot be combined with mix, mix_weights or gamma",
                    hint="give each mix its own weights and gamma",
                )
            chosen = _several(mixes, stored)
        elif mix_weights is not None:
            if mix is not None:
                raise InputError("mix cannot be combined with mix_weights", hint="omit one of them")
            chosen = [_of_call("", mix_weights, 1.0 if gamma is None else gamma)]
        else:
            one = stored_mix(stored, mix) if mix is not None else _default(config, stored)
            own_gamma = one.gamma if gamma is None else gamma
            chosen = [replace(one, name="", gamma=own_gamma)]
        return cls.stacked(config, chosen, with_layer_norm=uses_layer_norm(stored))

    @classmethod
    def stacked(
        cls, config: ElmoConfig, mixes: Sequence[NamedMix], *, with_layer_norm: bool
    ) -> Mixes:
        """The arrays of these mixes. Raises InputError for values that no call can use."""
        weights, gammas = [], []
        for mix in mixes:
            weights.append(_finite(f"mix_weights {mix.name}", mix.weights, (config.n_layers + 1,)))
            gammas.append(_gamma(f"gamma {mix.name}", mix.gamma))
        return cls(
            tuple(mix.name for mix in mixes),
            np.stack(weights),
            np.stack(gammas),
            np.array([mix.layer_norm for mix in mixes], np.float32) if with_layer_norm else None,
        )

    @property
    def normalizes(self) -> bool:
        """Whether any of them needs statistics over an entire sentence."""
        return self.layer_norm is not None and bool(self.layer_norm.any())

    def graph_inputs(self) -> dict[str, FloatArray]:
        """The inputs of a graph that describe the mixes, by name."""
        inputs = {"mix_weights": self.weights, "gamma": self.gamma}
        return inputs if self.layer_norm is None else {**inputs, "layer_norm": self.layer_norm}


def uses_layer_norm(mixes: Sequence[NamedMix]) -> bool:
    """Whether the graphs of a model with these mixes have the input `layer_norm`."""
    return any(mix.layer_norm for mix in mixes)


def mix_layers(layers: Sequence[FloatArray], mixes: Mixes) -> FloatArray:
    """All layers (tokens, 2P) of one sentence -> (mixes, tokens, 2P), as a graph mixes them."""
    exponentials = np.exp(mixes.weights - mixes.weights.max(axis=1, keepdims=True))
    shares = exponentials / exponentials.sum(axis=1, keepdims=True) * mixes.gamma[:, None]
    flags = np.zeros(len(shares)) if mixes.layer_norm is None else mixes.layer_norm
    mixed = np.zeros((len(shares), *layers[0].shape), np.float32)
    for layer, of_layer in zip(layers, shares.T, strict=True):
        normalized = _normalized(layer) if flags.any() else layer
        for row, share, norm in zip(mixed, of_layer, flags, strict=True):
            row += share * (normalized if norm else layer)
    return mixed


def mix_batch(layers: Sequence[FloatArray], lengths: NDArray[np.int32], mixes: Mixes) -> FloatArray:
    """All layers (batch, length, 2P) -> (mixes, batch, length, 2P), 0 past each length."""
    mixed = np.zeros((len(mixes.gamma), *layers[0].shape), np.float32)
    for row, length in enumerate(lengths):
        mixed[:, row, :length] = mix_layers([layer[row, :length] for layer in layers], mixes)
    return mixed


def stored_mix(stored: Sequence[NamedMix], name: object) -> NamedMix:
    """The mix of that name. Raises InputError with the names that exist."""
    for mix in stored:
        if mix.name == name:
            return mix
    known = ", ".join(mix.name for mix in stored)
    raise InputError(
        f"mix {name!r} does not exist",
        hint=f"use {known}" if known else "the bundle stores no mixes; use mix_weights and gamma",
    )


def _normalized(layer: FloatArray) -> FloatArray:
    """(tokens, 2P) -> the same with mean 0 and variance 1; an empty array stays empty."""
    if not layer.size:
        return layer
    centered = layer - np.float32(layer.mean(dtype=np.float64))
    variance = np.square(centered).mean(dtype=np.float64)
    return centered / np.float32(np.sqrt(variance + LAYER_NORM_EPSILON))


def _default(config: ElmoConfig, stored: Sequence[NamedMix]) -> NamedMix:
    if stored:
        return stored[0]
    return NamedMix(name="", weights=(0.0,) * (config.n_layers + 1), gamma=1.0)


def _several(mixes: object, stored: Sequence[NamedMix]) -> list[NamedMix]:
    """Mixes of the call from a dict, or stored ones from a list of names."""
    if isinstance(mixes, Mapping) and mixes:
        pairs = [isinstance(mix, tuple | list) and len(mix) == 2 for mix in mixes.values()]
        if all(pairs) and all(isinstance(name, str) and name for name in mixes):
            return [_of_call(name, *mix) for name, mix in mixes.items()]
    if isinstance(mixes, tuple | list) and mixes and all(isinstance(name, str) for name in mixes):
        return [stored_mix(stored, name) for name in dict.fromkeys(mixes)]
    raise InputError(
        'mixes must be a dict like {"ner": (weights, gamma)} or a list of stored names'
    )


def _of_call(name: str, weights: Any, gamma: Any) -> NamedMix:
    """The values of a caller, which are checked when they become arrays."""
    return NamedMix(name=name, weights=weights, gamma=gamma)


def _finite(what: str, value: object, shape: tuple[int, ...]) -> FloatArray:
    try:
        with np.errstate(over="ignore"):  # values beyond float32 become inf, which is refused
            array = np.asarray(value, np.float32)
    except (TypeError, ValueError, OverflowError, RuntimeError) as error:
        raise InputError(f"{what.strip()} is not numbers: {error}") from error
    if array.shape != shape or not np.isfinite(array).all():
        raise InputError(f"{what.strip()} is {value!r}, must be finite numbers of shape {shape}")
    return array


def _gamma(what: str, value: object) -> FloatArray:
    gamma = _finite(what, value, ())
    if abs(gamma) > LARGEST_GAMMA:  # float32 would overflow: finite inputs, infinite vectors
        raise InputError(f"{what.strip()} is {value!r}, must be within {LARGEST_GAMMA:g} of 0")
    return gamma
