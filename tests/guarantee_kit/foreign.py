"""Imports of foreign weights that carry code or are corrupt."""

from __future__ import annotations

import json
import pickle
import random
import tarfile
from pathlib import Path

from elmo_deploy.importers.allennlp_archive import import_archive
from elmo_deploy.importers.bilm_hdf5 import export_hdf5, import_hdf5
from elmo_runtime.errors import ArtifactError
from random_models import random_checkpoint, tiny_config

HEADERS = 4096  # bytes at the beginning of a tiny file, where HDF5 keeps its structure


class Payload:
    """Code that runs when its pickle is opened."""

    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return Path.touch, (self.canary,)


def publish(folder: Path) -> tuple[Path, Path]:
    """Write options and weights of a tiny model in the format that bilm-tf publishes."""
    folder.mkdir(parents=True, exist_ok=True)
    options, weights = folder / "options.json", folder / "weights.hdf5"
    export_hdf5(random_checkpoint(tiny_config()), options, weights)
    return options, weights


def import_mutants(folder: Path, seed: int, count: int) -> dict[str, int]:
    """Flip bits in the structure of HDF5 files; count the rejected and the converted files."""
    options, weights = publish(folder)
    content, generator = weights.read_bytes(), random.Random(seed)
    counts = {"rejected": 0, "converted": 0}
    for _ in range(count):
        corrupt = bytearray(content)
        for _ in range(generator.choice((1, 1, 4, 16))):
            corrupt[generator.randrange(HEADERS)] ^= 1 << generator.randrange(8)
        weights.write_bytes(corrupt)
        try:
            import_hdf5(options, weights)
            counts["converted"] += 1
        except ArtifactError:
            counts["rejected"] += 1
    return counts


def import_pickles(folder: Path, canary: Path, fault: str = "") -> list[str]:
    """Pass pickles wherever weights are expected; return the accepted ones."""
    options, weights = publish(folder)
    directly = _unpickle if fault == "unpickle" else import_hdf5
    pickled = pickle.dumps(Payload(canary))
    accepted = []
    for name, content in {
        "a pickle": pickled,
        "a pickle behind the signature of HDF5": b"\x89HDF\r\n\x1a\n" + pickled,
        "a torch file": _torch_file(folder / "weights.th", Payload(canary)),
    }.items():
        weights.write_bytes(content)
        for route, load in {"directly": directly, "in an archive": _import_archive}.items():
            try:
                load(options, weights)
                accepted.append(f"{name} {route}")
            except ArtifactError:
                pass
    return accepted


def _import_archive(options: Path, weights: Path) -> None:
    archive, config = weights.with_name("model.tar.gz"), weights.with_name("config.json")
    elmo = {"type": "elmo_token_embedder", "options_file": "o", "weight_file": "w"}
    embedders = {"token_embedders": {"elmo": elmo}}
    config.write_text(json.dumps({"model": {"text_field_embedder": embedders}}))
    place = "fta/model.text_field_embedder.token_embedders.elmo"
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(config, "config.json")
        tar.add(weights, "weights.th")
        tar.add(options, f"{place}.options_file")
        tar.add(weights, f"{place}.weight_file")
    import_archive(archive)


def _unpickle(options: Path, weights: Path) -> None:
    """An importer that treats every file as a torch file."""
    try:
        pickle.loads(weights.read_bytes())
    except pickle.UnpicklingError as error:
        raise ArtifactError(str(error)) from error


def _torch_file(path: Path, content: object) -> bytes:
    import torch

    torch.save(content, path)
    return path.read_bytes()
