"""A model before export: a directory with `config.json` and `model.safetensors`.

A language model also has `vocab.txt` and `softmax.safetensors`, which no vector needs.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save_file

from elmo_export.checkpoint_files import (
    check_is_checkpoint,
    halved,
    read_options,
    read_tensors,
    read_vocabulary,
)
from elmo_export.importers import find_importer
from elmo_export.own_files import (
    CHECKPOINT_FORMAT,
    CONFIG,
    MARK,
    NO_VOCABULARY,
    SOFTMAX_WEIGHTS,
    VOCABULARY,
    WEIGHTS,
)
from elmo_export.own_files import SOFTMAX as SOFTMAX
from elmo_export.shapes import expected_shapes
from elmo_runtime.config import ElmoConfig
from elmo_runtime.errors import CheckpointError, ConfigError, InputError
from elmo_runtime.files.atomic import atomic_directory, sha256_of
from elmo_runtime.mixes import NamedMix, check_mixes

LAYER_MIX = ("layer_mix.weights", "layer_mix.gamma")  # (M, L+1) and (M,)
LAYER_MIXES = "layer_mixes"  # key of config.json: the name of each mix and its do_layer_norm


@dataclass(frozen=True, kw_only=True)
class MixLabel:
    """The name of a layer mix, and whether it normalizes its layers."""

    name: str
    do_layer_norm: bool = False


@dataclass(frozen=True)
class Checkpoint:
    """An ELMo as arrays.

    Args:
        config: The sizes of the model.
        tensors: Arrays by the names of the state dict of `elmo_deploy.Elmo`. `softmax.weight`,
            `softmax.bias`, `layer_mix.weights` and `layer_mix.gamma` are optional.
        vocabulary: The words of the softmax.
        provenance: The origin of the weights.
        mix_labels: One label per layer mix; by default, the names are "0", "1" and so on. The
            first mix is the default of a bundle.

    Raises:
        CheckpointError: A tensor is missing, misshapen or unexpected, or a mix cannot be used.
    """

    config: ElmoConfig
    tensors: Mapping[str, NDArray[np.float32]]
    vocabulary: tuple[str, ...] | None = None
    provenance: Mapping[str, str] = field(default_factory=dict)
    mix_labels: tuple[MixLabel, ...] = ()

    def __repr__(self) -> str:
        weights = sum(tensor.size for tensor in self.tensors.values())
        words = "no vocabulary" if self.vocabulary is None else f"{len(self.vocabulary)} words"
        return f"Checkpoint of {weights:,} weights in {len(self.tensors)} tensors, {words}"

    def __post_init__(self) -> None:
        """Reject missing, unexpected or misshapen tensors, and layer mixes that cannot be used."""
        expected = expected_shapes(self.config) | self._optional_shapes()
        for name, shape in expected.items():
            if name not in self.tensors:
                raise CheckpointError(f"tensor {name} {shape} is missing")
            if self.tensors[name].shape != shape:
                raise CheckpointError(
                    f"tensor {name} is {self.tensors[name].shape}, the options say {shape}"
                )
        if unexpected := sorted(set(self.tensors) - set(expected)):
            raise CheckpointError(f"unknown tensors: {', '.join(unexpected)}")
        self._label_mixes()

    def _label_mixes(self) -> None:
        n_mixes = len(self.tensors.get(LAYER_MIX[1], ()))
        if not self.mix_labels:
            labels = tuple(MixLabel(name=str(number)) for number in range(n_mixes))
            object.__setattr__(self, "mix_labels", labels)  # the class is frozen
        if len(self.mix_labels) != n_mixes:
            raise CheckpointError(
                f"{len(self.mix_labels)} names are given for {n_mixes} layer mixes"
            )
        try:
            check_mixes(self.mixes, self.config)
        except InputError as error:
            raise CheckpointError(error.what, hint=error.hint) from error

    @property
    def mixes(self) -> tuple[NamedMix, ...]:
        """The layer mixes by name, the default first."""
        weights, gammas = (self.tensors.get(name, np.zeros(0)) for name in LAYER_MIX)
        return tuple(
            NamedMix(
                name=label.name,
                weights=tuple(row.tolist()),
                gamma=float(gamma),
                layer_norm=label.do_layer_norm,
            )
            for label, row, gamma in zip(self.mix_labels, weights, gammas, strict=True)
        )

    def _optional_shapes(self) -> dict[str, tuple[int, ...]]:
        """Shapes of the optional tensors; both tensors of a pair have the same number of rows."""
        shapes: dict[str, tuple[int, ...]] = {}
        widths = (self.config.projection_dim, self.config.n_layers + 1)
        for (matrix, vector), width in zip((SOFTMAX, LAYER_MIX), widths, strict=True):
            if matrix in self.tensors or vector in self.tensors:
                rows = self.tensors[matrix if matrix in self.tensors else vector].shape[:1]
                shapes |= {matrix: (*rows, width), vector: rows}
        return shapes

    @classmethod
    def from_hdf5(cls, options: str | Path, weights: str | Path) -> Checkpoint:
        """Import a published ELMo, as AllenNLP and bilm-tf store it.

        Args:
            options: The `options.json` of the model.
            weights: Its `weights.hdf5`. A softmax in the file is kept.

        Returns:
            The checkpoint; `write` stores it.

        Raises:
            ConfigError: The options cannot be read or do not describe an ELMo.
            WeightsError: A dataset is missing, misshapen, unexpected or not finite.
        """
        checkpoint: Checkpoint = find_importer("hdf5")(Path(options), Path(weights))
        return checkpoint

    @classmethod
    def read(cls, folder: str | Path) -> Checkpoint:
        """Read a checkpoint directory; half-precision weights become float32.

        The softmax is in `softmax.safetensors`, or in `model.safetensors` of earlier versions.

        Args:
            folder: The directory with config.json and model.safetensors.

        Returns:
            The checkpoint.

        Raises:
            CheckpointError: A file is missing, corrupt or does not fit the others.
            ConfigError: config.json is malformed.
        """
        folder = Path(folder)
        check_is_checkpoint(folder)
        options = read_options(folder / CONFIG)
        return cls(
            config=ElmoConfig.from_options(options),
            tensors=read_tensors(folder),
            vocabulary=read_vocabulary(folder / VOCABULARY),
            provenance=dict(options.get("provenance", {}))
            | {"model.safetensors sha256": sha256_of(folder / WEIGHTS)},
            mix_labels=_mix_labels(folder / CONFIG, options),
        )

    def write(self, folder: str | Path, *, half: bool = False) -> None:
        """Write the directory atomically; the same model gives the same bytes.

        An older checkpoint there is replaced; other files in the directory stay.

        Args:
            folder: The directory to write.
            half: Store the weights in float16, in half the space.

        Raises:
            CheckpointError: A weight exceeds the range of float16.
            InputError: Files of others would be lost.
            ArtifactError: The disk is full.
        """
        stored = halved(self.tensors) if half else self.tensors
        with atomic_directory(Path(folder), kind=CHECKPOINT_FORMAT) as scratch:
            options = self.config.to_options()
            if self.provenance:
                options["provenance"] = dict(self.provenance)
            if self.mix_labels:
                options[LAYER_MIXES] = [asdict(label) for label in self.mix_labels]
            (scratch / CONFIG).write_text(json.dumps(options, indent=2) + "\n", "utf-8")
            mark = NO_VOCABULARY
            if self.vocabulary is not None:
                text = "".join(f"{word}\n" for word in self.vocabulary)
                (scratch / VOCABULARY).write_text(text, "utf-8")
                mark = sha256_of(scratch / VOCABULARY)
            tensors = {name: np.ascontiguousarray(stored[name]) for name in sorted(stored)}
            softmax = {name: tensors.pop(name) for name in SOFTMAX if name in tensors}
            if softmax:
                save_file(softmax, scratch / SOFTMAX_WEIGHTS)
            save_file(tensors, scratch / WEIGHTS, metadata={MARK: mark})


def _mix_labels(path: Path, options: Mapping[str, Any]) -> tuple[MixLabel, ...]:
    """The labels in config.json; checkpoints of earlier versions have none."""
    labels = options.get(LAYER_MIXES, [])
    try:
        found = tuple(MixLabel(**label) for label in labels)
    except TypeError as error:
        raise ConfigError(f"{path}: {LAYER_MIXES} is malformed: {error}") from error
    for label in found:
        if not (isinstance(label.name, str) and isinstance(label.do_layer_norm, bool)):
            raise ConfigError(f"{path}: {LAYER_MIXES} is malformed: {label}")
    return found
