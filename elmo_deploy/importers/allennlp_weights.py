"""AllenNLP's `weights.th` -> the tensors of a checkpoint, the trained layer mixes included."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from elmo_deploy.importers.allennlp_layout import CACHED_WORDS, EMBEDDING, entries
from elmo_deploy.importers.torch_weights import read_torch_weights
from elmo_deploy.importers.weight_layout import (
    AS_IS,
    Array,
    ArraySpec,
    missing,
    read_tensors,
    refuse_unexpected,
)
from elmo_export.checkpoint import LAYER_MIX
from elmo_runtime.config import ElmoConfig
from elmo_runtime.errors import WeightsError

_MIX = re.compile(r"scalar_mix_(\d+)\.(gamma|scalar_parameters\.(\d+))")


@dataclass(frozen=True)
class TrainedElmo:
    """The tensors of one `Elmo` module and its place in the model, "" or ending in a dot."""

    place: str
    arrays: Mapping[str, Array]  # by the names in the module's own state dict

    @property
    def n_mixes(self) -> int:
        """How many layer mixes the module trained."""
        numbers = [int(found[1]) for name in self.arrays if (found := _MIX.fullmatch(name))]
        return max(numbers, default=-1) + 1

    def to_tensors(self, config: ElmoConfig) -> dict[str, Array]:
        """The tensors of a checkpoint. Raises WeightsError naming what does not fit the config."""
        wanted = entries(config)
        names = {entry.name for entry in wanted} | {CACHED_WORDS}
        refuse_unexpected([n for n in self.arrays if not _MIX.fullmatch(n)], names)
        tensors = read_tensors(wanted, self._read)
        if self.n_mixes:
            weights, gammas = zip(*(self._mix(i, config) for i in range(self.n_mixes)), strict=True)
            tensors |= dict(zip(LAYER_MIX, map(np.stack, (weights, gammas)), strict=True))
        return tensors

    def _mix(self, number: int, config: ElmoConfig) -> tuple[Array, Array]:
        """The weights (layers + 1,) and the scalar gamma of one layer mix."""
        prefix = f"scalar_mix_{number}."
        names = [f"{prefix}scalar_parameters.{k}" for k in range(config.n_layers + 1)]
        refuse_unexpected(
            [name for name in self.arrays if name.startswith(prefix)], [*names, f"{prefix}gamma"]
        )
        *weights, gamma = (self._read(_scalar(name)) for name in [*names, f"{prefix}gamma"])
        return np.concatenate(weights), gamma[0]

    def _read(self, entry: ArraySpec) -> Array:
        if entry.name not in self.arrays:
            raise missing(entry, "tensor")
        array = self.arrays[entry.name]
        entry.check_shape(array.shape)
        return entry.check_values(array)


def read_trained_elmo(path: Path) -> TrainedElmo:
    """The only ELMo in a `weights.th`. Raises WeightsError, also if there are none or several."""
    state = read_torch_weights(path)
    places = [name.removesuffix(EMBEDDING) for name in state if name.endswith(EMBEDDING)]
    if len(places) != 1:
        found = ", ".join(places) or "none"
        raise WeightsError(
            f"{path} contains {len(places)} ELMos ({found}), must be one",
            hint="import options.json and weights.hdf5 by --options and --weights",
        )
    [place] = places
    return TrainedElmo(
        place, {n.removeprefix(place): array for n, array in state.items() if n.startswith(place)}
    )


def _scalar(name: str) -> ArraySpec:
    return ArraySpec(name, (1,), AS_IS, (name,))
