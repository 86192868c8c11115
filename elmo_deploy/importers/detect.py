"""A file, an archive or a directory of any supported format -> checkpoint."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from elmo_deploy.importers.archive_files import ModelFiles, is_archive, opened
from elmo_deploy.importers.bilm_checkpoint import INDEX, LATEST, import_checkpoint
from elmo_export.checkpoint import Checkpoint
from elmo_runtime.errors import InputError, WeightsError

HDF5_START = b"\x89HDF\r\n\x1a\n"
HDF5_SUFFIXES = (".hdf5", ".h5")
OPTIONS_SUFFIX = "options.json"
SUPPORTED = (
    "supported are weights.hdf5 with options.json, an archive or a directory of AllenNLP, a"
    " TensorFlow checkpoint of bilm-tf and a local copy of TF Hub's module"
)


@dataclass(frozen=True)
class Imported:
    """A checkpoint and the format that it was read from, such as "a checkpoint of bilm-tf"."""

    checkpoint: Checkpoint
    format: str


@dataclass(frozen=True)
class Companions:
    """Files that the user names, because the source does not contain them."""

    options: Path | None = None
    vocabulary: Path | None = None


def import_path(source: Path, companions: Companions | None = None) -> Imported:
    """Import whichever supported format the source has.

    Raises InputError for a checkpoint or a bundle of elmo-deploy, WeightsError for a source of no
    supported format and the errors of the importer.
    """
    companions = companions or Companions()
    if source.is_dir() or (source.is_file() and is_archive(source)):
        with opened(source) as files:
            return _import_files(files, companions)
    if source.is_file() and _starts_as_hdf5(source):
        options = companions.options or _sibling_options(source)
        return Imported(_import_hdf5(options, source), "HDF5 weights of bilm-tf or AllenNLP")
    index = source if source.suffix == INDEX else source.with_name(source.name + INDEX)
    if index.is_file() or (source.is_file() and source.name == LATEST):
        with opened(source.parent) as files:
            return _import_tensorflow(files, index.stem if index.is_file() else "", companions)
    if not source.exists():
        raise WeightsError(f"{source} does not exist", hint=SUPPORTED)
    raise WeightsError(f"{source} has no supported format", hint=SUPPORTED)


def _import_files(files: ModelFiles, companions: Companions) -> Imported:
    """The model in the highest directory that contains one."""
    for folder in _folders(files):
        inner = files.within(folder)
        found = _import_folder(inner, companions)
        if found is not None:
            return found
    some = ", ".join(list(files)[:5]) or "none"
    raise WeightsError(f"contains no model of a supported format; files: {some}", hint=SUPPORTED)


def _folders(files: ModelFiles) -> Iterator[str]:
    """The directories inside, the highest first, each "" or ending in a slash."""
    parents = {parent for name in files for parent in PurePosixPath(name).parents}
    for parent in sorted(parents, key=lambda path: (len(path.parts), path)):
        yield "" if parent == PurePosixPath() else f"{parent}/"


def _import_folder(files: ModelFiles, companions: Companions) -> Imported | None:
    names = [name for name in files if "/" not in name]
    if "model.safetensors" in files and "config.json" in files:
        raise InputError("is a checkpoint already", hint="run: elmo-deploy export CHECKPOINT")
    if "manifest.json" in files:
        raise InputError("is a bundle, not weights", hint="run: elmo-deploy embed BUNDLE")
    if "config.json" in files and any(name.endswith(".th") for name in names):
        from elmo_deploy.importers.allennlp_archive import import_files

        return Imported(import_files(files, companions.options), "a trained model of AllenNLP")
    if any(name.endswith(INDEX) for name in names):
        return _import_tensorflow(files, "", companions)
    if any(name.endswith(HDF5_SUFFIXES) for name in names):
        return _import_hdf5_files(files, names, companions)
    if "config.json" in files and any(name.startswith("fta/") for name in files):
        from elmo_deploy.importers.allennlp_archive import import_files

        return Imported(import_files(files, companions.options), "a trained model of AllenNLP")
    return None


def _import_tensorflow(files: ModelFiles, name: str, companions: Companions) -> Imported:
    checkpoint = import_checkpoint(
        files, name, options=companions.options, vocabulary=companions.vocabulary
    )
    is_hub = any(mix.name == "tfhub" for mix in checkpoint.mixes)
    return Imported(
        checkpoint, "a copy of TF Hub's module" if is_hub else "a TensorFlow checkpoint of bilm-tf"
    )


def _import_hdf5_files(files: ModelFiles, names: list[str], companions: Companions) -> Imported:
    """The only weights and the only options, or those that are called so."""
    weights = _only([name for name in names if name.endswith(HDF5_SUFFIXES)], "weights")
    options = companions.options
    if options is None:
        options = files.path(_only([n for n in names if n.endswith(OPTIONS_SUFFIX)], "options"))
    path = files.path(weights)
    assert path is not None and options is not None
    return Imported(_import_hdf5(options, path), "HDF5 weights of bilm-tf or AllenNLP")


def _only(names: list[str], kind: str) -> str:
    """The only one of the names, or the only one that contains the word."""
    likely = [name for name in names if kind in name] if len(names) > 1 else names
    if len(likely) != 1:
        raise WeightsError(
            f"contains {len(names)} files of {kind}: {', '.join(names) or 'none'}",
            hint="pass one of each by --options and --weights",
        )
    return likely[0]


def _sibling_options(weights: Path) -> Path:
    """`NAME_weights.hdf5` and `NAME_options.json`, as AllenNLP names them, or options.json."""
    name = weights.stem.removesuffix("weights") + OPTIONS_SUFFIX
    for path in (weights.with_name(name), weights.with_name(OPTIONS_SUFFIX)):
        if path.is_file():
            return path
    raise WeightsError(f"{weights} has no {OPTIONS_SUFFIX} next to it", hint="pass it by --options")


def _import_hdf5(options: Path, weights: Path) -> Checkpoint:
    from elmo_deploy.importers.bilm_hdf5 import import_hdf5

    return import_hdf5(options, weights)


def _starts_as_hdf5(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(len(HDF5_START)) == HDF5_START
