"""Foreign weights that carry code, or damage, and what becomes of them."""

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
    """What runs when a pickle of it is opened."""

    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return Path.touch, (self.canary,)


def publish(folder: Path) -> tuple[Path, Path]:
    """Options and weights of a tiny model, as bilm-tf publishes them."""
    folder.mkdir(parents=True, exist_ok=True)
    options, weights = folder / "options.json", folder / "weights.hdf5"
    export_hdf5(random_checkpoint(tiny_config()), options, weights)
    return options, weights


def import_mutants(folder: Path, seed: int, count: int) -> dict[str, int]:
    """Flip bits of the structure of HDF5 files; how many were refused and how many converted."""
    options, weights = publish(folder)
    content, generator = weights.read_bytes(), random.Random(seed)
    counts = {"refused": 0, "converted": 0}
    for _ in range(count):
        damaged = bytearray(content)
        for _ in range(generator.choice((1, 1, 4, 16))):
            damaged[generator.randrange(HEADERS)] ^= 1 << generator.randrange(8)
        weights.write_bytes(damaged)
        try:
            import_hdf5(options, weights)
            counts["converted"] += 1
        except ArtifactError:
            counts["refused"] += 1
    return counts


def import_pickles(folder: Path, canary: Path, fault: str = "") -> list[str]:
    """Hand in pickles wherever weights are expected; what was taken."""
    options, weights = publish(folder)
    alone = _unpickle if fault == "unpickle" else import_hdf5
    pickled = pickle.dumps(Payload(canary))
    taken = []
    for name, content in {
        "a pickle": pickled,
        "a pickle behind the signature of HDF5": b"\x89HDF\r\n\x1a\n" + pickled,
        "a torch file": _torch_file(folder / "weights.th", Payload(canary)),
    }.items():
        weights.write_bytes(content)
        for way, give in {"alone": alone, "in an archive": _import_archive}.items():
            try:
                give(options, weights)
                taken.append(f"{name} {way}")
            except ArtifactError:
                pass
    return taken


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
    """What an importer does that takes any file for one of torch."""
    try:
        pickle.loads(weights.read_bytes())
    except pickle.UnpicklingError as error:
        raise ArtifactError(str(error)) from error


def _torch_file(path: Path, content: object) -> bytes:
    import torch

    torch.save(content, path)
    return path.read_bytes()
