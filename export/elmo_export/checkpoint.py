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
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

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
from elmo_runtime.bundle.manifest import MANIFEST
from elmo_runtime.config import ElmoConfig
from elmo_runtime.errors import CheckpointError, ConfigError, InputError, TextError
from elmo_runtime.files.atomic import atomic_directory, sha256_of
from elmo_runtime.float16 import FP16_MAX
from elmo_runtime.mixes import NamedMix, check_mixes
from elmo_runtime.text.vocabulary import read_words

LAYER_MIX = ("layer_mix.weights", "layer_mix.gamma")  # (M, L+1) and (M,)
LAYER_MIXES = "layer_mixes"  # key of config.json: the name of each mix and its do_layer_norm


@dataclass(frozen=True, kw_only=True)
class MixLabel:
    """What a layer mix is called, and whether it normalizes its layers."""

    name: str
    do_layer_norm: bool = False


@dataclass(frozen=True)
class Checkpoint:
    """An ELMo as arrays: tensors carry the names of `elmo_deploy.Elmo`'s state dict.

    `softmax.weight`, `softmax.bias`, `layer_mix.weights` and `layer_mix.gamma` are optional.
    mix_labels has one label per layer mix; without labels the mixes are called "0", "1", ....
    The first mix is the default of a bundle.
    """

    config: ElmoConfig
    tensors: Mapping[str, NDArray[np.float32]]
    vocabulary: tuple[str, ...] | None = None
    provenance: Mapping[str, str] = field(default_factory=dict)  # where the weights come from
    mix_labels: tuple[MixLabel, ...] = ()

    def __repr__(self) -> str:
        weights = sum(tensor.size for tensor in self.tensors.values())
        words = "no vocabulary" if self.vocabulary is None else f"{len(self.vocabulary)} words"
        return f"Checkpoint of {weights:,} weights in {len(self.tensors)} tensors, {words}"

    def __post_init__(self) -> None:
        """Refuse missing, unexpected or misshapen tensors, and layer mixes that cannot be used."""
        expected = expected_shapes(self.config) | self._optional_shapes()
        for name, shape in expected.items():
            if name not in self.tensors:
                raise CheckpointError(f"tensor {name} {shape} is missing")
            if self.tensors[name].shape != shape:
                raise CheckpointError(
                    f"tensor {name} is {self.tensors[name].shape}, the options say {shape}"
                )
        surplus = sorted(set(self.tensors) - set(expected))
        if surplus:
            raise CheckpointError(f"unknown tensors: {', '.join(surplus)}")
        self._label_mixes()

    def _label_mixes(self) -> None:
        held = len(self.tensors.get(LAYER_MIX[1], ()))
        if not self.mix_labels:
            labels = tuple(MixLabel(name=str(number)) for number in range(held))
            object.__setattr__(self, "mix_labels", labels)  # the way of a frozen dataclass
        if len(self.mix_labels) != held:
            raise CheckpointError(f"{len(self.mix_labels)} names are given for {held} layer mixes")
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
        """Shapes of the tensors that only some models have; a pair has as many rows in both."""
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
        _refuse_other_directories(folder)
        options = _read_options(folder / CONFIG)
        tensors = _read_tensors(folder)
        return cls(
            config=ElmoConfig.from_options(options),
            tensors={name: _widened(name, tensor) for name, tensor in tensors.items()},
            vocabulary=_read_vocabulary(folder / VOCABULARY),
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
        stored = _halved(self.tensors) if half else self.tensors
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


def _refuse_other_directories(folder: Path) -> None:
    """Raise CheckpointError where the directory is one that is easily taken for a checkpoint."""
    if (folder / WEIGHTS).exists():
        return
    if (folder / MANIFEST).exists():
        raise CheckpointError(
            f"{folder} is a bundle, not a checkpoint",
            hint="name the checkpoint that the bundle was exported from",
        )
    if (folder / "checkpoint" / WEIGHTS).exists():
        raise CheckpointError(
            f"{folder} is the directory of a training run",
            hint=f"name its checkpoint: {folder / 'checkpoint'}",
        )


def _read_tensors(folder: Path) -> dict[str, NDArray[Any]]:
    """The tensors of one file or of two. Raises CheckpointError."""
    tensors = _load(folder / WEIGHTS)
    if not (folder / SOFTMAX_WEIGHTS).exists():
        return tensors
    softmax = _load(folder / SOFTMAX_WEIGHTS)
    if unexpected := sorted(set(softmax) - set(SOFTMAX)):
        raise CheckpointError(
            f"{folder / SOFTMAX_WEIGHTS} holds {', '.join(unexpected)}, not only a softmax"
        )
    if twice := sorted(set(softmax) & set(tensors)):
        raise CheckpointError(
            f"{WEIGHTS} and {SOFTMAX_WEIGHTS} in {folder} both hold {', '.join(twice)}",
            hint=f"remove {SOFTMAX_WEIGHTS} if it belongs to another model",
        )
    return tensors | softmax


def _load(path: Path) -> dict[str, NDArray[Any]]:
    try:
        return load_file(path)
    except FileNotFoundError as error:
        raise CheckpointError(
            f"{path} does not exist", hint=f"a checkpoint holds it next to {CONFIG}"
        ) from error
    except (SafetensorError, OSError, TypeError) as error:  # TypeError: bfloat16
        raise CheckpointError(f"{path} cannot be read: {error}") from error


def _widened(name: str, tensor: NDArray[Any]) -> NDArray[np.float32]:
    if tensor.dtype not in (np.float16, np.float32, np.float64):
        raise CheckpointError(f"tensor {name} is {tensor.dtype}, must be a floating-point type")
    return tensor.astype(np.float32, copy=False)


def _halved(tensors: Mapping[str, NDArray[np.float32]]) -> dict[str, NDArray[np.float16]]:
    for name, tensor in tensors.items():
        largest = float(np.abs(tensor).max(initial=0))
        if largest > FP16_MAX:
            raise CheckpointError(
                f"tensor {name} holds {largest:.3g}, beyond float16's {FP16_MAX:.0f}"
            )
    return {name: tensor.astype(np.float16) for name, tensor in tensors.items()}


def _read_vocabulary(path: Path) -> tuple[str, ...] | None:
    if not path.exists():
        return None
    try:
        return read_words(path)
    except TextError as error:
        raise CheckpointError(error.what, hint=error.hint) from error


def _read_options(path: Path) -> dict[str, Any]:
    try:
        options = json.loads(path.read_bytes())  # bytes may begin with a byte order mark
    except FileNotFoundError as error:
        raise CheckpointError(
            f"{path} does not exist",
            hint="make one by: elmo-deploy import | train",
        ) from error
    except (OSError, ValueError, RecursionError) as error:
        raise ConfigError(f"{path} is not JSON: {error}") from error
    if not isinstance(options, dict):
        raise ConfigError(f"{path} holds {type(options).__name__}, must be an object")
    if not isinstance(origin := options.get("provenance", {}), dict):
        raise ConfigError(f"{path}: provenance is {origin!r}, must be an object")
    return options


def _mix_labels(path: Path, options: Mapping[str, Any]) -> tuple[MixLabel, ...]:
    """The labels in config.json; a checkpoint of an earlier version has none."""
    labels = options.get(LAYER_MIXES, [])
    try:
        found = tuple(MixLabel(**label) for label in labels)
    except TypeError as error:
        raise ConfigError(f"{path}: {LAYER_MIXES} is malformed: {error}") from error
    for label in found:
        if not (isinstance(label.name, str) and isinstance(label.do_layer_norm, bool)):
            raise ConfigError(f"{path}: {LAYER_MIXES} is malformed: {label}")
    return found
