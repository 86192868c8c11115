"""`options.json` + `weights.hdf5`, as bilm-tf and AllenNLP publish ELMos <-> checkpoint.

SeqVec and every model that bilm-tf trained use the same format.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from elmo_deploy.importers.bilm_layout import entries, softmax_entries
from elmo_deploy.importers.options import read_options
from elmo_deploy.importers.weight_layout import (
    Array,
    ArraySpec,
    missing,
    read_tensors,
    refuse_unexpected,
)
from elmo_export.checkpoint import SOFTMAX, Checkpoint
from elmo_runtime.config import ElmoConfig
from elmo_runtime.errors import ConfigError, InputError, WeightsError
from elmo_runtime.files.atomic import atomic_file, check_file, sha256_of
from elmo_runtime.hdf5 import Hdf5Output

# Weights barely compress. A dataset that claims far more than its file contains was never written.
MAX_EXPANSION = 16


def import_hdf5(options: Path, weights: Path) -> Checkpoint:
    """Read a published ELMo with its softmax, if there is one; training options are dropped.

    Raises ConfigError for the options and WeightsError for the weights. Each error is one line
    that names the dataset, its shape and the shape that it must have.
    """
    config = ElmoConfig.from_options(read_options(options))
    provenance = {
        "imported weights sha256": _digest(weights),
        "imported options sha256": sha256_of(options),
    }
    with _opened(weights) as file:
        tensors = _read_tensors(file, config)
    return Checkpoint(config=config, tensors=tensors, provenance=provenance)


def export_hdf5(checkpoint: Checkpoint, options_path: Path, weights_path: Path) -> None:
    """Write the two files that AllenNLP and bilm-tf read, each one atomically.

    The format has no place for a layer mix, which belongs to the model of a task there. Raises
    InputError if the directory contains an options.json that elmo-deploy did not write.
    """
    tensors, config = checkpoint.tensors, checkpoint.config
    _refuse_published_options(options_path)
    for path in (options_path, weights_path):
        check_file(path)
    written = entries(config)
    if SOFTMAX[0] in tensors:
        written += softmax_entries(config, len(tensors[SOFTMAX[0]]))
    with atomic_file(weights_path) as scratch, Hdf5Output(scratch) as file:
        for entry in written:
            array = entry.layout.to_file(*(tensors[name] for name in entry.tensors))
            file.add(entry.name, data=np.ascontiguousarray(array, np.float32))
    with atomic_file(options_path) as scratch:
        scratch.write_text(_options_text(config), "utf-8")


def _refuse_published_options(path: Path) -> None:
    """Raise InputError unless elmo-deploy wrote the file; original ones have training options."""
    if not path.exists():
        return
    try:
        ours = _options_text(ElmoConfig.from_options(read_options(path)))
    except ConfigError:
        ours = ""
    if path.read_text("utf-8", errors="replace") != ours:
        raise InputError(
            f"{path} exists and was not written by elmo-deploy, so it is not replaced",
            hint="write to another directory",
        )


def _options_text(config: ElmoConfig) -> str:
    return json.dumps(config.to_options(), indent=2) + "\n"


def _digest(path: Path) -> str:
    if not path.is_file():  # Reading a device or a pipe would block forever.
        raise WeightsError(f"{path} is not a file", hint="name the weights.hdf5 of the model")
    return sha256_of(path)


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[h5py.File]:
    try:
        with h5py.File(path, "r") as file:
            yield file
    except WeightsError as error:
        raise WeightsError(f"{path}: {error.what}", hint=error.hint) from error
    # h5py raises any of these for a file that is truncated, corrupt or not HDF5.
    except (OSError, RuntimeError, KeyError, ValueError, TypeError) as error:
        reason = " ".join(str(error).split())
        raise WeightsError(
            f"{path} cannot be read as HDF5: {reason}", hint="download it again and compare sizes"
        ) from error


def _read_tensors(file: h5py.File, config: ElmoConfig) -> dict[str, Array]:
    wanted = entries(config)
    if file.id.links.exists(b"softmax"):
        n_words = _dataset(file, softmax_entries(config, 0)[0]).shape[:1]
        wanted += softmax_entries(config, *n_words)
    refuse_unexpected(_weights_in(file), (entry.name for entry in wanted))
    return read_tensors(wanted, lambda entry: _read(file, entry))


def _read(file: h5py.File, entry: ArraySpec) -> Array:
    dataset = _dataset(file, entry)
    entry.check_shape(dataset.shape)
    if dataset.nbytes > MAX_EXPANSION * file.id.get_filesize():
        raise WeightsError(f"{entry.name} claims {dataset.nbytes} bytes, far beyond its file")
    return entry.check_values(dataset[...])


def _dataset(file: h5py.File, entry: ArraySpec) -> h5py.Dataset:
    """The dataset; WeightsError if a link or external storage leads out of this file."""
    node: Any = file
    for part in entry.name.split("/"):
        # The low-level calls read the link itself; `part in node` would open its target.
        links, name = getattr(node.id, "links", None), part.encode()
        if links is None or not links.exists(name):
            raise missing(entry, "dataset")
        if links.get_info(name).type != h5py.h5l.TYPE_HARD:
            raise WeightsError(f"{entry.name} is a link, possibly to another file")
        node = node[part]
    if not isinstance(node, h5py.Dataset):
        raise WeightsError(f"{entry.name} is a group, must be a dataset of shape {entry.shape}")
    if node.is_virtual or node.external:
        raise WeightsError(f"{entry.name} is stored in another file")
    if node.dtype.kind != "f":
        raise WeightsError(f"{entry.name} contains {node.dtype}, must be float32")
    return node


def _weights_in(file: h5py.File) -> set[str]:
    """The names of every dataset of the character CNN and the LSTMs."""
    found: set[str] = set()

    def note(name: str, node: h5py.HLObject) -> None:
        if isinstance(node, h5py.Dataset) and name.startswith(("CNN", "RNN_")):
            found.add(name)

    file.visititems(note)  # It follows no link to another file.
    return found
