"""`options.json` + `weights.hdf5`, as bilm-tf and AllenNLP publish ELMos <-> checkpoint.

The only file that knows HDF5. SeqVec and every model trained by bilm-tf have the same format.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from elmo_export.checkpoint import SOFTMAX, Checkpoint
from elmo_runtime.characters import N_CHARACTERS, N_RAW_CHARACTERS
from elmo_runtime.config import ElmoConfig
from elmo_runtime.errors import ConfigError, InputError, WeightsError
from elmo_runtime.files.atomic import atomic_file, check_file, sha256_of
from elmo_runtime.hdf5 import Hdf5Output

Array = NDArray[np.float32]
MAX_OPTIONS_BYTES = 1 << 20
# Weights barely compress. A dataset that claims far more than its file holds was never written.
MAX_EXPANSION = 16


@dataclass(frozen=True)
class Layout:
    """How one dataset and the tensors of a checkpoint hold the same numbers."""

    to_model: Callable[[Array], Sequence[Array]]
    to_file: Callable[..., Array]


AS_IS = Layout(lambda x: (x,), lambda x: x)
TRANSPOSED = Layout(lambda x: (x.T,), lambda x: x.T)  # TensorFlow: x @ W, torch: x @ W.T
CONVOLUTION = Layout(lambda x: (x[0].T,), lambda x: x.T[np.newaxis])  # (1, w, d, n) <-> (n, d, w)
STACKED = Layout(lambda x: np.split(x, 2), lambda *parts: np.concatenate(parts))


@dataclass(frozen=True)
class Entry:
    """A dataset of the file, its shape there, and the tensors that it becomes."""

    dataset: str
    shape: tuple[int, ...]
    layout: Layout
    tensors: tuple[str, ...]


def import_hdf5(options: Path, weights: Path) -> Checkpoint:
    """Read a published ELMo; a softmax in the file is kept, training options are not.

    Raises ConfigError for the options and WeightsError for the weights, each one line that
    names the dataset with the shape it has and the shape it must have.
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
    """Write the two files that AllenNLP and bilm-tf read; each is whole or absent.

    The layer mix has no place in the format: there it belongs to the task's own model. Raises
    InputError where an options.json of someone else is in the way.
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
            file.add(entry.dataset, data=np.ascontiguousarray(array, np.float32))
    with atomic_file(options_path) as scratch:
        scratch.write_text(_options_text(config), "utf-8")


def _refuse_published_options(path: Path) -> None:
    """Files that we wrote hold exactly what we write; the original ones hold training options."""
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


def read_options(path: Path) -> dict[str, Any]:
    """The content of an `options.json`. Raises ConfigError."""
    if not path.is_file():
        raise ConfigError(f"{path} does not exist", hint="it lies beside the weights.hdf5")
    if path.stat().st_size > MAX_OPTIONS_BYTES:
        raise ConfigError(f"{path} is {path.stat().st_size} bytes, at most {MAX_OPTIONS_BYTES}")
    try:
        options = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise ConfigError(f"{path} is not JSON: {error}") from error
    if not isinstance(options, dict):
        raise ConfigError(f"{path} holds {type(options).__name__}, must be an object")
    return options


def entries(config: ElmoConfig) -> list[Entry]:
    """Every dataset that the weights of an ELMo of this config must have."""
    P, F, d = config.projection_dim, config.n_filters, config.char_embedding_dim
    found = [Entry("char_embed", (N_RAW_CHARACTERS, d), AS_IS, ("char_cnn.embedding",))]
    for i, (width, count) in enumerate(config.filters):
        tensor = f"char_cnn.convolutions.{i}"
        shape = (1, width, d, count)
        found += [
            Entry(f"CNN/W_cnn_{i}", shape, CONVOLUTION, (f"{tensor}.weight",)),
            Entry(f"CNN/b_cnn_{i}", (count,), AS_IS, (f"{tensor}.bias",)),
        ]
    for i in range(config.n_highway):
        for name, part in (("carry", "gate"), ("transform", "transform")):
            tensor = f"char_cnn.highways.{i}.{part}"
            found += [
                Entry(f"CNN_high_{i}/W_{name}", (F, F), TRANSPOSED, (f"{tensor}.weight",)),
                Entry(f"CNN_high_{i}/b_{name}", (F,), AS_IS, (f"{tensor}.bias",)),
            ]
    found += [
        Entry("CNN_proj/W_proj", (F, P), TRANSPOSED, ("char_cnn.projection.weight",)),
        Entry("CNN_proj/b_proj", (P,), AS_IS, ("char_cnn.projection.bias",)),
    ]
    return found + lstm_entries(config)


def lstm_entries(config: ElmoConfig) -> list[Entry]:
    """The datasets of both directions and every layer."""
    P, C = config.projection_dim, config.lstm_dim
    found = []
    for number, direction in enumerate(("forward", "backward")):
        for depth in range(config.n_layers):
            cell = f"RNN_{number}/RNN/MultiRNNCell/Cell{depth}/LSTMCell"
            layer = f"bilm.{direction}_stack.layers.{depth}"
            kernel = (f"{layer}.input_weight", f"{layer}.recurrent_weight")
            found += [
                Entry(f"{cell}/W_0", (2 * P, 4 * C), STACKED, kernel),
                Entry(f"{cell}/B", (4 * C,), AS_IS, (f"{layer}.bias",)),
                Entry(f"{cell}/W_P_0", (C, P), AS_IS, (f"{layer}.projection_weight",)),
            ]
    return found


def softmax_entries(config: ElmoConfig, n_words: int) -> list[Entry]:
    """The datasets of the language model's softmax over n_words; most files lack them."""
    return [
        Entry("softmax/W", (n_words, config.projection_dim), AS_IS, (SOFTMAX[0],)),
        Entry("softmax/b", (n_words,), AS_IS, (SOFTMAX[1],)),
    ]


def _digest(path: Path) -> str:
    if not path.is_file():  # a device or a pipe would block for ever
        raise WeightsError(f"{path} is not a file", hint="name the weights.hdf5 of the model")
    return sha256_of(path)


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[h5py.File]:
    try:
        with h5py.File(path, "r") as file:
            yield file
    except WeightsError as error:
        raise WeightsError(f"{path}: {error.what}", hint=error.hint) from error
    # h5py raises any of these for a file that is truncated, damaged or something else entirely.
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
    _refuse_surplus(file, {entry.dataset for entry in wanted})
    tensors: dict[str, Array] = {}
    for entry in wanted:
        parts = entry.layout.to_model(_read(file, entry))
        tensors |= zip(entry.tensors, map(np.ascontiguousarray, parts), strict=True)
    return tensors


def _read(file: h5py.File, entry: Entry) -> Array:
    dataset = _dataset(file, entry)
    padded = entry.dataset == "char_embed" and dataset.shape == (N_CHARACTERS, *entry.shape[1:])
    if dataset.shape != entry.shape and not padded:
        raise WeightsError(
            f"{entry.dataset} is {dataset.shape}, the options say {entry.shape}",
            hint="do the options belong to these weights?",
        )
    if dataset.nbytes > MAX_EXPANSION * file.id.get_filesize():
        raise WeightsError(f"{entry.dataset} claims {dataset.nbytes} bytes, far beyond its file")
    with np.errstate(over="ignore"):  # what a wider type cannot hold turns inf and is refused
        array = np.asarray(dataset[...], np.float32)
    if not np.isfinite(array).all():
        raise WeightsError(f"{entry.dataset} holds a value that is not finite")
    return _without_padding(array) if padded else array


def _without_padding(embedding: Array) -> Array:
    """Some tools write the 262 rows of inference; the first, of "no character", must be 0."""
    if embedding[0].any():
        raise WeightsError(
            f"char_embed has {N_CHARACTERS} rows, but row 0 is not the padding row of zeros"
        )
    return embedding[1:]


def _dataset(file: h5py.File, entry: Entry) -> h5py.Dataset:
    """The dataset, reached by hard links and kept in this very file; WeightsError if it is not."""
    node: Any = file
    for part in entry.dataset.split("/"):
        # The low-level calls look at the link itself; `part in node` would open what it names.
        links, name = getattr(node.id, "links", None), part.encode()
        if links is None or not links.exists(name):
            raise WeightsError(
                f"dataset {entry.dataset} of shape {entry.shape} is missing",
                hint="do the options belong to these weights?",
            )
        if links.get_info(name).type != h5py.h5l.TYPE_HARD:
            raise WeightsError(f"{entry.dataset} is a link, maybe to another file")
        node = node[part]
    if not isinstance(node, h5py.Dataset):
        raise WeightsError(f"{entry.dataset} is a group, must be a dataset of shape {entry.shape}")
    if node.is_virtual or node.external:
        raise WeightsError(f"{entry.dataset} lies in another file")
    if node.dtype.kind != "f":
        raise WeightsError(f"{entry.dataset} holds {node.dtype}, must be float32")
    return node


def _refuse_surplus(file: h5py.File, wanted: set[str]) -> None:
    """A layer that the options do not know would be left out without a word."""
    found: set[str] = set()

    def note(name: str, node: h5py.HLObject) -> None:
        if isinstance(node, h5py.Dataset) and name.startswith(("CNN", "RNN_")):
            found.add(name)

    file.visititems(note)  # follows no link that leaves the file
    surplus = sorted(found - wanted)
    if surplus:
        raise WeightsError(
            f"{surplus[0]} has no place in a model of these options",
            hint="do the options belong to these weights?",
        )
