"""bilm-tf's TensorFlow checkpoints, and local copies of TF Hub's elmo/2 and elmo/3 -> checkpoint.

Variables get the names of the published HDF5 files. Optimizer slots, step counters and states
that a training run carried are not part of a model and are ignored.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from elmo_deploy.importers.archive_files import ModelFiles
from elmo_deploy.importers.bilm_layout import entries, softmax_entries
from elmo_deploy.importers.options import read_options
from elmo_deploy.importers.tensor_bundle import TensorBundle
from elmo_deploy.importers.weight_layout import (
    AS_IS,
    Array,
    ArraySpec,
    missing,
    read_tensors,
    refuse_unexpected,
)
from elmo_export.checkpoint import LAYER_MIX, SOFTMAX, Checkpoint, MixLabel
from elmo_runtime.config import ElmoConfig
from elmo_runtime.errors import ConfigError, WeightsError
from elmo_runtime.files.atomic import sha256_of
from elmo_runtime.text.vocabulary import read_words

INDEX = ".index"
OPTIONS, VOCABULARY, LATEST = "options.json", "vocab.txt", "checkpoint"
HUB_MIX = "tfhub"
_LATEST = re.compile(rb'^model_checkpoint_path:\s*"(.*)"\s*$', re.MULTILINE)
_SHARD = "{}.data-{:05d}-of-{:05d}"
# bilm-tf's training and inference graphs, TensorFlow before 1.2, one layer.
_CELL = re.compile(
    r"RNN_(?P<direction>[01])/(rnn|RNN)/((multi_rnn_cell/cell_|MultiRNNCell/Cell)(?P<layer>\d+)/)?"
    r"(rnn/)?(lstm_cell|LSTMCell)/(?P<part>.+)"
)
_PARTS = {
    **dict.fromkeys(("kernel", "weights", "W_0"), "W_0"),
    **dict.fromkeys(("bias", "biases", "B"), "B"),
    **dict.fromkeys(("projection/kernel", "projection/weights", "W_P_0"), "W_P_0"),
}
_OURS = ("char_embed", "embedding", "CNN", "RNN_", "rnn/", "softmax/")


@dataclass(frozen=True)
class BilmVariables:
    """The variables of a bundle that belong to the model, by the names of HDF5 files."""

    bundle: TensorBundle
    names: dict[str, str]  # name in the HDF5 file -> name of the variable

    @classmethod
    def of(cls, bundle: TensorBundle) -> BilmVariables:
        """Raise WeightsError naming the kind of model if it cannot be an ELMo."""
        prefix = _prefix(bundle)
        found = [(_hdf5_name(name.removeprefix(prefix)), name) for name in _weights(bundle, prefix)]
        names = dict(found)
        if len(names) < len(found):
            raise WeightsError("two variables are the same weights under different names")
        if any(name.startswith("rnn/") for name in names):
            raise WeightsError(
                "the model is not bidirectional, which an ELMo must be",
                hint='train with "bidirectional": true',
            )
        return cls(bundle, names)

    def shape(self, name: str) -> tuple[int, ...] | None:
        """The shape of a variable, or None if there is none of this name."""
        return self.bundle.variables[self.names[name]].shape if name in self.names else None

    def read(self, entry: ArraySpec) -> Array:
        """The checked value of an entry. Raises WeightsError."""
        shape = self.shape(entry.name)
        if shape is None:
            raise missing(entry, "variable")
        entry.check_shape(shape)
        return entry.check_values(self.bundle.read(self.names[entry.name]))


def import_checkpoint(
    files: ModelFiles,
    name: str = "",
    *,
    options: Path | None = None,
    vocabulary: Path | None = None,
) -> Checkpoint:
    """The model of a TensorFlow checkpoint; `name` picks one of several, such as "model.ckpt-200".

    Options come from `options`, from the options.json in the directory or, for a copy of TF Hub's
    module, from the shapes and the published clips. A softmax is kept. Its words come from
    `vocabulary` or from the vocab.txt in the directory. Raises WeightsError, ConfigError or
    TextError.
    """
    name = name or _latest(files)
    index = files.path(name + INDEX)
    if index is None:
        raise WeightsError(f"{name}{INDEX} does not exist", hint="name an existing checkpoint")
    bundle = TensorBundle(index, lambda i, n: files.path(_SHARD.format(name, i, n)))
    variables = BilmVariables.of(bundle)
    options = options or files.path(OPTIONS)
    if options is None and "aggregation/weights" not in bundle.variables:
        raise WeightsError(
            f"{name} does not contain the clips, the skip connections and the activation, and"
            f" there is no {OPTIONS}",
            hint="pass the options.json of the training by --options",
        )
    config = _config(read_options(options)) if options else hub_config(variables)
    checkpoint = _checkpoint(variables, config)
    return replace(
        checkpoint,
        vocabulary=_vocabulary(files, vocabulary, checkpoint),
        provenance=dict(_provenance(files, name, bundle.n_shards, options)),
    )


def _config(options: dict[str, Any]) -> ElmoConfig:
    if options.get("bidirectional") is False:
        raise ConfigError("options: bidirectional is false; an ELMo has both directions")
    return ElmoConfig.from_options(options)


def _checkpoint(variables: BilmVariables, config: ElmoConfig) -> Checkpoint:
    wanted = entries(config)
    softmax = variables.shape("softmax/W")
    if softmax is not None:
        wanted += softmax_entries(config, *softmax[:1])
    refuse_unexpected(variables.names, (entry.name for entry in wanted))
    read: Callable[[ArraySpec], Array] = variables.read
    if config.projection_dim == config.lstm_dim and not _has_projection(variables):
        # bilm-tf then has neither a projection nor its clip: an identity matrix computes the same.
        config, read = replace(config, proj_clip=None), _with_identity(read)
    tensors = read_tensors(wanted, read) | _hub_mix(variables.bundle, config)
    labels = (MixLabel(name=HUB_MIX),) if LAYER_MIX[0] in tensors else ()
    return Checkpoint(config=config, tensors=tensors, mix_labels=labels)


def hub_config(variables: BilmVariables) -> ElmoConfig:
    """The config of TF Hub's module: sizes by its shapes, and the options of the published model.

    Raises WeightsError for a variable that is missing or of another number of dimensions.
    """

    def shape(name: str, dimensions: int) -> tuple[int, ...]:
        found = variables.shape(name)
        if found is None or len(found) != dimensions:
            raise WeightsError(f"variable {name} has the shape {found}, must have {dimensions}")
        return found

    def count(pattern: str) -> int:
        return len({found[0] for name in variables.names if (found := re.match(pattern, name))})

    filters = [shape(f"CNN/W_cnn_{i}", 4) for i in range(count(r"CNN/W_cnn_\d+"))]
    cell = "RNN_0/RNN/MultiRNNCell/Cell"
    return ElmoConfig(
        projection_dim=shape("CNN_proj/W_proj", 2)[1],
        lstm_dim=shape(f"{cell}0/LSTMCell/B", 1)[0] // 4,
        n_layers=count(rf"{cell}\d+"),
        use_skip_connections=True,
        char_embedding_dim=shape("char_embed", 2)[1],
        filters=tuple((width, number) for _, width, _, number in filters),
        n_highway=count(r"CNN_high_\d+"),
        cell_clip=3.0,
        proj_clip=3.0,
    )


def _hub_mix(bundle: TensorBundle, config: ElmoConfig) -> dict[str, Array]:
    """The mix that TF Hub's module stores as `aggregation/weights` and `aggregation/scaling`."""
    found = {}
    shapes = (("aggregation/weights", (config.n_layers + 1,)), ("aggregation/scaling", ()))
    for (name, shape), tensor in zip(shapes, LAYER_MIX, strict=True):
        if name in bundle.variables:
            entry = ArraySpec(name, shape, AS_IS, (tensor,))
            entry.check_shape(bundle.variables[name].shape)
            found[tensor] = entry.check_values(bundle.read(name))[np.newaxis]
    return found


def _has_projection(variables: BilmVariables) -> bool:
    return any(name.endswith("W_P_0") for name in variables.names)


def _with_identity(read: Callable[[ArraySpec], Array]) -> Callable[[ArraySpec], Array]:
    def read_or_identity(entry: ArraySpec) -> Array:
        if entry.name.endswith("W_P_0"):
            return np.eye(*entry.shape, dtype=np.float32)
        return read(entry)

    return read_or_identity


def _prefix(bundle: TensorBundle) -> str:
    """What precedes the names: "lm/" in training, "bilm/" in TF Hub's module."""
    for last, kind in (("char_embed", ""), ("embedding", "words")):
        found = [name for name in bundle.variables if f"/{name}".endswith(f"/{last}")]
        if found and kind:
            raise WeightsError(
                f"the model reads words, not characters: it has {found[0]} and no char_embed",
                hint="import a model with a char_cnn",
            )
        if found:
            return min(found, key=len).removesuffix(last)
    names = ", ".join(list(bundle.variables)[:3]) or "none"
    raise WeightsError(
        f"no variable is called char_embed; the {len(bundle.variables)} variables begin: {names}",
        hint="is it a checkpoint of bilm-tf?",
    )


def _weights(bundle: TensorBundle, prefix: str) -> Iterator[str]:
    """Names of variables that are weights; `W/Adagrad` is a slot of the variable `W`."""
    for name in bundle.variables:
        is_slot = name.rpartition("/")[0] in bundle.variables
        if name.startswith(tuple(prefix + ours for ours in _OURS)) and not is_slot:
            yield name


def _hdf5_name(name: str) -> str:
    """`RNN_0/rnn/multi_rnn_cell/cell_1/lstm_cell/kernel` -> `RNN_0/RNN/MultiRNNCell/Cell1/...`."""
    found = _CELL.fullmatch(name)
    part = _PARTS.get(found["part"]) if found else None
    if found is None or part is None:
        return name
    cell = f"RNN_{found['direction']}/RNN/MultiRNNCell/Cell{found['layer'] or 0}"
    return f"{cell}/LSTMCell/{part}"


def _latest(files: ModelFiles) -> str:
    """The name that the file `checkpoint` gives, without the directories of another machine."""
    path = files.path(LATEST)
    found = _LATEST.search(path.read_bytes()) if path else None
    if found:
        name = re.split(rb"[/\\]", found[1])[-1].decode("utf-8", "replace")
        if f"{name}{INDEX}" in files:
            return name
    names = sorted(file.removesuffix(INDEX) for file in files if file.endswith(INDEX))
    names = [name for name in names if "/" not in name]
    if len(names) != 1:
        raise WeightsError(
            f"there are {len(names)} checkpoints: {', '.join(names) or 'none'}",
            hint=f"name one of them, such as DIRECTORY/NAME{INDEX}",
        )
    return names[0]


def _vocabulary(
    files: ModelFiles, given: Path | None, checkpoint: Checkpoint
) -> tuple[str, ...] | None:
    """The words of the softmax. Raises WeightsError if a given vocabulary has another size."""
    path = given or files.path(VOCABULARY)
    if path is None or SOFTMAX[1] not in checkpoint.tensors:
        return None
    words, rows = read_words(path), len(checkpoint.tensors[SOFTMAX[1]])
    if len(words) == rows:
        return words
    if given is None:
        return None
    raise WeightsError(
        f"{path} has {len(words)} words, the softmax has {rows}",
        hint="pass the vocabulary of the training",
    )


def _provenance(
    files: ModelFiles, name: str, n_shards: int, options: Path | None
) -> Iterator[tuple[str, str]]:
    for file in (name + INDEX, *(_SHARD.format(name, i, n_shards) for i in range(n_shards))):
        path = files.path(file)
        if path is not None:
            yield f"imported {file} sha256", sha256_of(path)
    if options is not None:
        yield "imported options sha256", sha256_of(options)
