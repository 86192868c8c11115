"""The files of a checkpoint directory -> options, tensors and words, or an error of one line."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file

from elmo_export.own_files import CONFIG, SOFTMAX, SOFTMAX_WEIGHTS, WEIGHTS
from elmo_runtime.bundle.manifest import MANIFEST
from elmo_runtime.errors import CheckpointError, ConfigError, TextError
from elmo_runtime.float16 import FP16_MAX
from elmo_runtime.text.vocabulary import read_words


def check_is_checkpoint(folder: Path) -> None:
    """Raise CheckpointError for a bundle or a training run, which are easily confused with it."""
    if (folder / WEIGHTS).exists():
        return
    if (folder / MANIFEST).exists():
        raise CheckpointError(
            f"{folder} is a bundle, not a checkpoint",
            hint="use the checkpoint that the bundle was exported from",
        )
    if (folder / "checkpoint" / WEIGHTS).exists():
        raise CheckpointError(
            f"{folder} is the directory of a training run",
            hint=f"use its checkpoint: {folder / 'checkpoint'}",
        )


def read_tensors(folder: Path) -> dict[str, NDArray[np.float32]]:
    """The tensors of model.safetensors and softmax.safetensors in float32, by name.

    Raises CheckpointError.
    """
    tensors, softmax = _load(folder / WEIGHTS), _read_softmax(folder)
    if twice := sorted(set(softmax) & set(tensors)):
        raise CheckpointError(
            f"{WEIGHTS} and {SOFTMAX_WEIGHTS} in {folder} both hold {', '.join(twice)}",
            hint=f"remove {SOFTMAX_WEIGHTS} if it belongs to another model",
        )
    return {name: _widened(name, tensor) for name, tensor in (tensors | softmax).items()}


def _read_softmax(folder: Path) -> dict[str, NDArray[Any]]:
    if not (folder / SOFTMAX_WEIGHTS).exists():
        return {}
    softmax = _load(folder / SOFTMAX_WEIGHTS)
    if unexpected := sorted(set(softmax) - set(SOFTMAX)):
        raise CheckpointError(
            f"{folder / SOFTMAX_WEIGHTS} holds {', '.join(unexpected)}, not only a softmax"
        )
    return softmax


def _load(path: Path) -> dict[str, NDArray[Any]]:
    try:
        return load_file(path)
    except FileNotFoundError as error:
        raise CheckpointError(
            f"{path} does not exist", hint=f"a checkpoint contains it next to {CONFIG}"
        ) from error
    except (SafetensorError, OSError, TypeError) as error:  # TypeError: bfloat16
        raise CheckpointError(f"{path} cannot be read: {error}") from error


def _widened(name: str, tensor: NDArray[Any]) -> NDArray[np.float32]:
    if tensor.dtype not in (np.float16, np.float32, np.float64):
        raise CheckpointError(f"tensor {name} is {tensor.dtype}, must be a floating-point type")
    return tensor.astype(np.float32, copy=False)


def halved(tensors: Mapping[str, NDArray[np.float32]]) -> dict[str, NDArray[np.float16]]:
    """The tensors in float16. Raises CheckpointError for a weight beyond its range."""
    for name, tensor in tensors.items():
        largest = float(np.abs(tensor).max(initial=0))
        if largest > FP16_MAX:
            raise CheckpointError(
                f"tensor {name} holds {largest:.3g}, beyond float16's {FP16_MAX:.0f}"
            )
    return {name: tensor.astype(np.float16) for name, tensor in tensors.items()}


def read_vocabulary(path: Path) -> tuple[str, ...] | None:
    """The words of vocab.txt, or None without that file. Raises CheckpointError."""
    if not path.exists():
        return None
    try:
        return read_words(path)
    except TextError as error:
        raise CheckpointError(error.what, hint=error.hint) from error


def read_options(path: Path) -> dict[str, Any]:
    """The content of config.json. Raises CheckpointError if it is missing, else ConfigError."""
    try:
        options = json.loads(path.read_bytes())  # bytes may begin with a byte order mark
    except FileNotFoundError as error:
        raise CheckpointError(
            f"{path} does not exist",
            hint="create a checkpoint with: elmo-deploy import, or elmo-deploy train",
        ) from error
    except (OSError, ValueError, RecursionError) as error:
        raise ConfigError(f"{path} is not JSON: {error}") from error
    if not isinstance(options, dict):
        raise ConfigError(f"{path} holds {type(options).__name__}, must be an object")
    if not isinstance(origin := options.get("provenance", {}), dict):
        raise ConfigError(f"{path}: provenance is {origin!r}, must be an object")
    return options
