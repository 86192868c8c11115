"""AllenNLP's `model.tar.gz`, or its directory -> checkpoint with the trained layer mixes.

`weights.th` contains the ELMo as it was trained. Archives of 2017 to 2019 also contain the files
that training started from, below `fta/`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from elmo_deploy.importers.archive_files import ModelFiles, opened
from elmo_deploy.importers.bilm_hdf5 import import_hdf5
from elmo_deploy.importers.options import MAX_OPTIONS_BYTES, read_options
from elmo_export.checkpoint import Checkpoint, MixLabel
from elmo_runtime.config import ElmoConfig
from elmo_runtime.errors import WeightsError
from elmo_runtime.files.atomic import sha256_of

if TYPE_CHECKING:
    from elmo_deploy.importers.allennlp_weights import TrainedElmo

CONFIG = "config.json"
WEIGHTS = "weights.th"
BEST_WEIGHTS = "best.th"  # in the directory of a training that was not archived
ADDED_FILES = "fta/"  # "files to archive": fta/<place in config.json>.options_file, .weight_file
OPTIONS_FILE, WEIGHT_FILE = "options_file", "weight_file"
NOT_INSIDE = "the cell clip, the projection clip, the skip connections and the activation"


@dataclass(frozen=True)
class Description:
    """What config.json says about the one ELMo of the model."""

    place: str = ""  # the keys that lead to it, each followed by a dot
    embedder: Mapping[str, Any] | None = None

    @property
    def member(self) -> str:
        """The prefix of the two members that archives of 2017 to 2019 have."""
        return f"{ADDED_FILES}{self.place}"

    @property
    def hint(self) -> str:
        """Which files the config names."""
        keys = (OPTIONS_FILE, WEIGHT_FILE)
        names = [str(self.embedder[key]) for key in keys] if self.embedder else []
        return f"config.json names: {', '.join(names) or 'none'}"


def import_archive(archive: Path, *, options: Path | None = None) -> Checkpoint:
    """The ELMo of a trained AllenNLP model, fine-tuned or not, and its layer mixes by name.

    options: the options.json of the ELMo, which archives since 2020 do not contain; it wins over
    the one inside. Raises WeightsError where the model has no ELMo or more than one, or where
    the options are missing, and ConfigError for the options.
    """
    with opened(archive) as files:
        checkpoint = import_files(files, options)
    if archive.is_dir():
        return checkpoint
    provenance = {**checkpoint.provenance, "imported archive sha256": sha256_of(archive)}
    return replace(checkpoint, provenance=provenance)


def import_files(files: ModelFiles, options: Path | None) -> Checkpoint:
    """The ELMo of the opened archive or directory; see import_archive."""
    description = _described(files)
    inside = files.path(f"{description.member}{OPTIONS_FILE}") if description.embedder else None
    options = options or inside
    weights = files.path(WEIGHTS) or files.path(BEST_WEIGHTS)
    if weights is None:
        return _import_added_files(files, description, options)
    if options is None:
        raise WeightsError(
            f"{WEIGHTS} does not contain {NOT_INSIDE}, and {OPTIONS_FILE} is not inside",
            hint=f"pass the options.json of the ELMo by --options; {description.hint}",
        )
    from elmo_deploy.importers.allennlp_weights import read_trained_elmo  # It imports torch.

    config = ElmoConfig.from_options(read_options(options))
    trained = read_trained_elmo(weights)
    return Checkpoint(
        config=config,
        tensors=trained.to_tensors(config),
        provenance={
            "imported weights sha256": sha256_of(weights),
            "imported options sha256": sha256_of(options),
        },
        mix_labels=_labels(trained, description),
    )


def _import_added_files(
    files: ModelFiles, description: Description, options: Path | None
) -> Checkpoint:
    """The ELMo that training started from, where nothing else is inside."""
    name = f"{description.member}{WEIGHT_FILE}"
    weights = files.path(name) if description.embedder else None
    if weights is None or options is None:
        raise WeightsError(
            f"{WEIGHTS} is not inside, nor are {name} and {OPTIONS_FILE}",
            hint=f"import by --options and --weights; {description.hint}",
        )
    return import_hdf5(options, weights)


def _labels(trained: TrainedElmo, description: Description) -> tuple[MixLabel, ...]:
    """The name of the embedder for its layer mix, with a number if there are several."""
    place = trained.place.removesuffix("_elmo.").rstrip(".").rpartition(".")[2]
    name = place.removeprefix("token_embedder_").strip("_") or "elmo"
    norm = bool((description.embedder or {}).get("do_layer_norm", False))
    names = [name] if trained.n_mixes == 1 else [f"{name}_{i}" for i in range(trained.n_mixes)]
    return tuple(MixLabel(name=name, do_layer_norm=norm) for name in names)


def _described(files: ModelFiles) -> Description:
    """The ELMo of the config; an empty description if the config describes none."""
    path = files.path(CONFIG)
    if path is None or path.stat().st_size > MAX_OPTIONS_BYTES:
        raise WeightsError(f"no {CONFIG} of at most {MAX_OPTIONS_BYTES} bytes is inside")
    try:
        found = list(_elmo_embedders(json.loads(path.read_bytes())))
    except (ValueError, RecursionError) as error:
        raise WeightsError(f"{CONFIG} is not JSON: {error}") from error
    if len(found) > 1:
        raise WeightsError(
            f"{CONFIG} describes {len(found)} ELMos, must be one",
            hint="import one by --options and --weights",
        )
    return Description(*found[0]) if found else Description()


def _elmo_embedders(config: Any) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Every object of the config with an options_file and a weight_file, and its place."""
    waiting = [("", config)]
    while waiting:
        place, node = waiting.pop()
        if not isinstance(node, dict):
            continue
        if OPTIONS_FILE in node and WEIGHT_FILE in node:
            yield place, node
        waiting += [(f"{place}{key}.", child) for key, child in node.items()]
