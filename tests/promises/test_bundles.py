"""Bundles on disk, B1 to B4: whole, listed, of this version, or not opened."""

from __future__ import annotations

import json
import os
import random
import shutil
import socket
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

import onnxruntime
import pytest

from elmo_runtime.bundle import MANIFEST, MANIFEST_DIGEST, MAX_MANIFEST_BYTES, Bundle
from elmo_runtime.embedder import Embedder
from elmo_runtime.errors import BundleCorruptError, BundleError, BundleVersionError
from promise_kit import memory
from promise_kit.spoil import accidents, forge, graph_of, put_manifest, spoiled

GREED_LIMIT = 32 * memory.MIB  # the 4 GB claimed would be a hundred times that


@pytest.fixture
def copy(bundle, tmp_path) -> Path:
    """A bundle to spoil, in a room of its own."""
    return Path(shutil.copytree(bundle, tmp_path / "room" / "bundle"))


def load(folder: Path) -> None:
    Embedder.load(folder, backend="onnxruntime-cpu").close()


def taken_for_whole(folder: Path, spare: Path, count: int, seed: int) -> list[str]:
    """The accidents after which a bundle still loads, or fails in some parser."""
    accepted = []
    for name, change in accidents(folder, count, random.Random(seed)):
        with spoiled(folder, change, spare):
            try:
                load(folder)
                accepted.append(name)
            except BundleCorruptError:
                pass
            except (
                Exception
            ) as error:  # whatever a parser says of it, it should not have been asked
                accepted.append(f"{name}: {error}")
    return accepted


def test_b1_a_changed_missing_or_surplus_file_is_corrupt(
    bundle, copy, seed, cases, kept, monkeypatch
):
    count, sessions = cases(530, 10_000), []
    monkeypatch.setattr(onnxruntime, "InferenceSession", lambda *a, **k: sessions.append(a))
    assert taken_for_whole(copy, bundle, count, seed) == []
    assert sessions == []
    kept("B1", f"{count} changes, all BundleCorruptError, no session created")


def test_b1_control_a_skipped_digest(bundle, copy, seed, caught, monkeypatch):
    listed = json.loads((bundle / MANIFEST).read_text())["files"]
    digests = {copy / name: entry["sha256"] for name, entry in listed.items()}
    monkeypatch.setattr("elmo_runtime.bundle.sha256_of", digests.__getitem__)
    accepted = taken_for_whole(copy, bundle, 48, seed)
    assert len(accepted) > 10
    caught("B1", f"{len(accepted)} of 48 accepted: {accepted[0]}")


OTHER_VERSIONS = {
    "newer schema": lambda m: m.update(schema=2),
    "older schema": lambda m: m.update(schema=0),
    "schema as text": lambda m: m.update(schema="1"),
    "no graphs": lambda m: m.pop("graphs"),
    "no parity table": lambda m: m.pop("parity"),
    "no opset": lambda m: graph_of(m, "bilm").pop("opset"),
    "opset as text": lambda m: graph_of(m, "bilm").update(opset="20"),
    "another opset": lambda m: [graph.update(opset=99) for graph in m["graphs"]],
    "another input": lambda m: graph_of(m, "token_encoder")["inputs"][0].update(name="ids"),
    "another dtype": lambda m: graph_of(m, "token_encoder")["inputs"][0].update(dtype="int64"),
    "another rank": lambda m: graph_of(m, "token_encoder")["inputs"][0]["axes"].append("more"),
    "another width": lambda m: graph_of(m, "token_encoder")["outputs"][0]["axes"].append(9),
    "another model": lambda m: m["config"]["lstm"].update(projection_dim=9),
}


def loaded_though_of_another_version(folder: Path, spare: Path) -> list[str]:
    accepted = []
    for name, edit in OTHER_VERSIONS.items():
        with spoiled(folder, lambda edit=edit: forge(folder, edit), spare):
            try:
                load(folder)
                accepted.append(name)
            except BundleVersionError as error:
                assert error.hint, name
    return accepted


def test_b2_another_version_is_refused_with_both_versions_and_the_cure(bundle, copy, kept):
    assert loaded_though_of_another_version(copy, bundle) == []
    forge(copy, OTHER_VERSIONS["newer schema"])
    with pytest.raises(BundleVersionError, match=r"has schema 2, this elmo-deploy reads 1; export"):
        load(copy)
    kept("B2", f"{len(OTHER_VERSIONS)} kinds of bundle, all rejected with the fix")


def test_b2_control_a_schema_that_nobody_compares(bundle, copy, caught, monkeypatch):
    monkeypatch.setattr("elmo_runtime.bundle.SCHEMA", 2)
    accepted = loaded_though_of_another_version(copy, bundle)
    assert accepted == ["newer schema"]
    caught("B2", f"accepted: {accepted}")


def replaced_by(make: Callable[[Path, Path], object]) -> Callable[[Path], None]:
    """Move a graph out of the folder and make something in its place that leads there."""

    def trick(folder: Path) -> None:
        path, outside = next(folder.glob("graphs/*.onnx")), folder.parent / "canary"
        path.rename(outside)
        make(path, outside)

    return trick


def listed_as(name: str) -> Callable[[Path], None]:
    """List the canary beside the bundle under this name, with its true digest."""

    def trick(folder: Path) -> None:
        canary = folder.parent / "canary"
        canary.write_bytes(b"secret")
        entry = {"bytes": 6, "sha256": sha256(b"secret").hexdigest()}
        forge(folder, lambda m: m["files"].update({name.format(canary=canary): entry}))

    return trick


def graph_at(name: str) -> Callable[[Path], None]:
    """Let the manifest say that the biLM is this file."""

    def trick(folder: Path) -> None:
        canary = folder.parent / "canary"
        shutil.copy(next(folder.glob("graphs/*.onnx")), canary)
        forge(folder, lambda m: graph_of(m, "bilm").update(file=name.format(canary=canary)))

    return trick


def link_the_folder(folder: Path) -> None:
    (folder / "graphs").rename(folder.parent / "canary")
    (folder / "graphs").symlink_to(folder.parent / "canary")


def link_the_manifest(folder: Path) -> None:
    (folder / MANIFEST).rename(folder.parent / "canary")
    (folder / MANIFEST).symlink_to(folder.parent / "canary")


def bind_a_socket(folder: Path) -> None:
    here = os.getcwd()
    os.chdir(folder)  # the name of a socket has at most 107 bytes
    try:
        with socket.socket(socket.AF_UNIX) as bound:
            bound.bind("socket")
    finally:
        os.chdir(here)


TRICKS = {
    "listed as ..": listed_as("../canary"),
    "listed as an absolute path": listed_as("{canary}"),
    "listed through a folder": listed_as("graphs/../../canary"),
    "listed with a backslash": listed_as("..\\canary"),
    "a name over 255 bytes": listed_as("x" * 256),
    "two names that differ by case": listed_as("README.MD"),
    "graph at ..": graph_at("../canary"),
    "graph at an absolute path": graph_at("{canary}"),
    "symbolic link": replaced_by(lambda path, outside: path.symlink_to(outside)),
    "hard link": replaced_by(lambda path, outside: path.hardlink_to(outside)),
    "linked folder": link_the_folder,
    "linked manifest": link_the_manifest,
    "pipe": lambda folder: os.mkfifo(folder / "graphs" / "pipe"),
    "pipe as the manifest": lambda folder: (
        (folder / MANIFEST).unlink(),
        os.mkfifo(folder / MANIFEST),
    ),
    "socket": bind_a_socket,
}


def led_outside(copy: Path, bundle: Path) -> list[str]:
    """The tricks after which a load reads something that is not the bundle's own plain file."""
    successful = []
    for name, trick in TRICKS.items():
        shutil.rmtree(copy.parent)
        shutil.copytree(bundle, copy)
        trick(copy)
        try:
            load(copy)
            successful.append(name)
        except BundleError:
            pass
    return successful


def test_b3_nothing_outside_the_folder_is_read(bundle, copy, kept):
    assert led_outside(copy, bundle) == []
    kept("B3", f"{len(TRICKS)} tricks, all refused")


def test_b3_control_links_that_are_followed(bundle, copy, caught, monkeypatch):
    def follow(folder: Path) -> list[str]:
        return [str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()]

    monkeypatch.setattr("elmo_runtime.bundle._files_below", follow)
    successful = led_outside(copy, bundle)
    assert {"symbolic link", "hard link"} <= set(successful)
    caught("B3", f"led outside: {', '.join(successful)}")


def stretch(path: Path) -> None:
    """A file of 4 GB that takes no room."""
    os.truncate(path, 4 << 30)


GREED = {
    "a manifest over 1 MiB": lambda folder: put_manifest(folder, b" " * (MAX_MANIFEST_BYTES + 1)),
    "a manifest of 4 GB": lambda folder: stretch(folder / MANIFEST),
    "a digest of 4 GB": lambda folder: stretch(folder / MANIFEST_DIGEST),
    "a graph of 4 GB": lambda folder: stretch(next(folder.glob("graphs/*.onnx"))),
    "brackets 100,000 deep": lambda folder: put_manifest(folder, b"[" * 100_000),
    "claims of 1 GB": lambda folder: forge(
        folder, lambda m: [entry.update(bytes=1 << 30) for entry in m["files"].values()]
    ),
    "a claim of infinity": lambda folder: forge(
        folder, lambda m: next(iter(m["files"].values())).update(bytes=float("inf"))
    ),
}


def cost_of_greed(copy: Path, bundle: Path) -> tuple[int, list[str]]:
    """The most bytes that the process grew by, and the bundles that were not refused."""
    growth, accepted = 0, []
    for name, change in GREED.items():
        with spoiled(copy, lambda change=change: change(copy), bundle):
            memory.reset_peak()
            before = memory.resident()
            try:
                Bundle.open(copy)
                accepted.append(name)
            except BundleCorruptError:
                growth = max(growth, memory.peak() - before)
    return growth, accepted


def test_b4_a_greedy_bundle_costs_nothing(bundle, copy, kept):
    growth, accepted = cost_of_greed(copy, bundle)
    assert accepted == []
    assert growth < GREED_LIMIT
    kept("B4", f"{len(GREED)} greedy bundles refused within {growth / memory.MIB:.0f} MiB")


def test_b4_control_reading_before_looking_at_the_size(bundle, copy, caught, monkeypatch):
    def read_first(path: Path) -> bytes:
        with path.open("rb") as stream:
            return stream.read(1 << 28)

    monkeypatch.setattr("elmo_runtime.bundle._read_plain_file", read_first)
    growth, _ = cost_of_greed(copy, bundle)
    assert growth > GREED_LIMIT
    caught("B4", f"grew by {growth / memory.MIB:.0f} MiB")
