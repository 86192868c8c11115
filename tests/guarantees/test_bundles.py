"""B1 to B4: a bundle is opened only if it is complete, listed and of a known version."""

from __future__ import annotations

import contextlib
import os
import random
import re
import shutil
import socket
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

import onnx
import onnxruntime
import pytest
from onnx.external_data_helper import convert_model_to_external_data

from elmo_export import recover_checkpoint
from elmo_runtime.backends.base import BackendOptions
from elmo_runtime.backends.onnxruntime.backend import open_cpu
from elmo_runtime.bundle.manifest import MANIFEST, MANIFEST_DIGEST, MAX_MANIFEST_BYTES, Bundle
from elmo_runtime.embedder import Embedder
from elmo_runtime.errors import (
    BackendUnavailableError,
    BundleCorruptError,
    BundleError,
    BundleVersionError,
)
from elmo_runtime.inference.golden_check import golden_char_ids
from elmo_runtime.state import read_warm
from guarantee_kit import memory
from guarantee_kit.corruption import accidents, corrupted, forge, graph_of, put_manifest

GREED_LIMIT = 32 * memory.MIB  # the claimed 4 GB are a hundred times more


@pytest.fixture
def copy(bundle, tmp_path) -> Path:
    """A bundle that may be corrupted, in a directory of its own."""
    return Path(shutil.copytree(bundle, tmp_path / "private" / "bundle"))


def load(folder: Path) -> None:
    Embedder.load(folder, backend="onnxruntime-cpu").close()


def accepted_accidents(folder: Path, spare: Path, count: int, seed: int) -> list[str]:
    """The accidents after which a bundle still loads, or fails in a parser."""
    accepted = []
    for name, change in accidents(folder, count, random.Random(seed)):
        with corrupted(folder, change, spare):
            try:
                load(folder)
                accepted.append(name)
            except BundleCorruptError:
                pass
            except Exception as error:  # a parser read the corrupt file
                accepted.append(f"{name}: {error}")
    return accepted


def test_b1_a_changed_missing_or_unexpected_file_is_corrupt(
    bundle, copy, seed, cases, kept, monkeypatch
):
    count, sessions = cases(530, 10_000), []
    monkeypatch.setattr(onnxruntime, "InferenceSession", lambda *a, **k: sessions.append(a))
    assert accepted_accidents(copy, bundle, count, seed) == []
    assert sessions == []
    kept("B1", f"{count} changes, all BundleCorruptError, no session created")


def test_b1_control_a_skipped_digest(bundle, copy, seed, caught, monkeypatch):
    monkeypatch.setattr("elmo_runtime.bundle.listed_files._check_digest", lambda *found: None)
    accepted = accepted_accidents(copy, bundle, 48, seed)
    assert len(accepted) > 10
    caught("B1", f"{len(accepted)} of 48 accepted: {accepted[0]}")


OTHER_VERSIONS = {
    "newer schema": lambda m: m.update(schema=3),
    "older schema": lambda m: m.update(schema=0),
    "schema as text": lambda m: m.update(schema="1"),
    "schema as a flag": lambda m: m.update(schema=True),
    "no mixes": lambda m: m.pop("mixes"),
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


def accepted_versions(folder: Path, spare: Path) -> list[str]:
    accepted = []
    for name, edit in OTHER_VERSIONS.items():
        with corrupted(folder, lambda edit=edit: forge(folder, edit), spare):
            try:
                load(folder)
                accepted.append(name)
            except BundleVersionError as error:
                assert error.hint, name
    return accepted


def test_b2_another_version_is_rejected_with_both_versions_and_the_fix(bundle, copy, kept):
    assert accepted_versions(copy, bundle) == []
    forge(copy, OTHER_VERSIONS["newer schema"])
    with pytest.raises(BundleVersionError, match=r"has schema 3, this elmo-deploy reads 1 to 2;"):
        load(copy)
    kept("B2", f"{len(OTHER_VERSIONS)} kinds of bundle, all rejected with the fix")


def test_b2_control_an_unchecked_schema(bundle, copy, caught, monkeypatch):
    monkeypatch.setattr("elmo_runtime.bundle.manifest.SCHEMA", 3)
    accepted = accepted_versions(copy, bundle)
    assert accepted == ["newer schema"]
    caught("B2", f"accepted: {accepted}")


def replaced_by(make: Callable[[Path, Path], object]) -> Callable[[Path], None]:
    """Move a graph out of the directory and replace it by a path that leads to it."""

    def trick(folder: Path) -> None:
        path, outside = next(folder.glob("graphs/*.onnx")), folder.parent / "canary"
        path.rename(outside)
        make(path, outside)

    return trick


def led_to_other_bytes(link: Callable[[Path, Path], object]) -> Callable[[Path], None]:
    """Replace a graph by a link to another file of the same size."""

    def trick(folder: Path) -> None:
        path, canary = next(folder.glob("graphs/*.onnx")), folder.parent / "canary"
        canary.write_bytes(b"s" * path.stat().st_size)
        path.unlink()
        link(path, canary)

    return trick


def listed_as(name: str) -> Callable[[Path], None]:
    """List the canary next to the bundle under this name, with its true digest."""

    def trick(folder: Path) -> None:
        canary = folder.parent / "canary"
        canary.write_bytes(b"secret")
        entry = {"bytes": 6, "sha256": sha256(b"secret").hexdigest()}
        forge(folder, lambda m: m["files"].update({name.format(canary=canary): entry}))

    return trick


def graph_at(name: str) -> Callable[[Path], None]:
    """Name this file as the biLM in the manifest."""

    def trick(folder: Path) -> None:
        canary = folder.parent / "canary"
        shutil.copy(next(folder.glob("graphs/*.onnx")), canary)
        forge(folder, lambda m: graph_of(m, "bilm").update(file=name.format(canary=canary)))

    return trick


def bind_a_socket(folder: Path) -> None:
    here = os.getcwd()
    os.chdir(folder)  # the name of a socket has at most 107 bytes
    try:
        with socket.socket(socket.AF_UNIX) as bound:
            bound.bind("socket")
    finally:
        os.chdir(here)


def link_to_a_pipe(path: Path, outside: Path) -> None:
    os.mkfifo(outside.with_name("a-pipe"))
    path.symlink_to(outside.with_name("a-pipe"))


def tensors_outside(folder: Path) -> None:
    """Store a graph's tensors in an unlisted file, in both directories that are searched."""
    path = next(folder.glob("graphs/token_encoder*.onnx"))
    model = onnx.load(path)
    convert_model_to_external_data(model, location=".canary", size_threshold=100)
    onnx.save(model, path)
    shutil.copy(path.with_name(".canary"), folder.parent)  # the current directory
    name, content = path.relative_to(folder).as_posix(), path.read_bytes()
    entry = {"bytes": len(content), "sha256": sha256(content).hexdigest()}
    forge(folder, lambda m: m["files"].update({name: entry}))


TRICKS = {
    "listed as ..": listed_as("../canary"),
    "listed as an absolute path": listed_as("{canary}"),
    "listed through a folder": listed_as("graphs/../../canary"),
    "listed with a backslash": listed_as("..\\canary"),
    "a name over 255 bytes": listed_as("x" * 256),
    "two names that differ by case": listed_as("README.MD"),
    "graph at ..": graph_at("../canary"),
    "graph at an absolute path": graph_at("{canary}"),
    "symbolic link to other bytes": led_to_other_bytes(Path.symlink_to),
    "hard link to other bytes": led_to_other_bytes(Path.hardlink_to),
    "link to nothing": replaced_by(lambda path, outside: path.symlink_to(outside / "nowhere")),
    "link to itself": replaced_by(lambda path, outside: path.symlink_to(path)),
    "link to a device": replaced_by(lambda path, outside: path.symlink_to("/dev/zero")),
    "link to a pipe": replaced_by(lambda path, outside: link_to_a_pipe(path, outside)),
    "link to a folder": replaced_by(lambda path, outside: path.symlink_to(path.parent)),
    "tensors outside": tensors_outside,
    "pipe": lambda folder: os.mkfifo(folder / "graphs" / "pipe"),
    "pipe as the manifest": lambda folder: (
        (folder / MANIFEST).unlink(),
        os.mkfifo(folder / MANIFEST),
    ),
    "socket": bind_a_socket,
}


def reads_outside(copy: Path, bundle: Path) -> list[str]:
    """The tricks after which a load reads a file that is not a plain file of the bundle."""
    successful = []
    for name, trick in TRICKS.items():
        shutil.rmtree(copy.parent)
        shutil.copytree(bundle, copy)
        trick(copy)
        try:
            with contextlib.chdir(copy.parent):
                load(copy)
            successful.append(name)
        except (BundleError, BackendUnavailableError):
            pass
    return successful


def test_b3_no_file_outside_the_directory_is_read(bundle, copy, kept):
    assert reads_outside(copy, bundle) == []
    kept("B3", f"{len(TRICKS)} tricks, all rejected")


def test_b3_control_unchecked_names_and_tensors(bundle, copy, caught, monkeypatch):
    monkeypatch.setattr("elmo_runtime.bundle.listed_files._SAFE_PART", re.compile(".*"))
    monkeypatch.setattr(
        "elmo_runtime.backends.onnxruntime.backend.EXTERNAL_DATA", "session.unknown"
    )
    monkeypatch.setattr("elmo_runtime.bundle.listed_files._check_digest", lambda *found: None)
    successful = reads_outside(copy, bundle)
    assert {"listed as ..", "listed as an absolute path", "tensors outside"} <= set(successful)
    caught("B3", f"read outside: {', '.join(successful)}")


def in_a_hub_cache(folder: Path) -> None:
    """Replace each file by a link to a blob, as huggingface_hub stores a snapshot."""
    blobs = folder.parent / "blobs"
    blobs.mkdir()
    for number, path in enumerate(p for p in folder.rglob("*") if p.is_file()):
        path.rename(blobs / str(number))
        path.symlink_to(os.path.relpath(blobs / str(number), path.parent))


def with_tool_files(folder: Path) -> None:
    for name in (
        ".git/HEAD",
        ".cache/huggingface/x.metadata",
        "graphs/.DS_Store",
        ".gitattributes",
    ):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("another tool")
    for name in ("Thumbs.db", "desktop.ini", "graphs/Desktop.ini", "._README.md", "samples/.nfs01"):
        (folder / name).write_text("another tool")
    (folder / "lost+found").mkdir()


def link_the_folder(folder: Path) -> None:
    (folder / "graphs").rename(folder.parent / "canary")
    (folder / "graphs").symlink_to(folder.parent / "canary")


LOCATIONS = {
    "hub cache": in_a_hub_cache,
    "files of other tools": with_tool_files,
    "hard-link backup": lambda folder: shutil.copytree(
        folder, folder.parent / "backup", copy_function=os.link
    ),
    "linked folder": link_the_folder,
    "link to the bundle": replaced_by(lambda path, outside: path.symlink_to(outside)),
}


@pytest.mark.parametrize("location", LOCATIONS)
def test_b3_a_bundle_is_accepted_by_its_bytes_in_every_location(location, bundle, copy, tmp_path):
    """Links, hidden files and hard links were rejected as corrupt, although no byte differed."""
    LOCATIONS[location](copy)
    with (
        Embedder.load(copy, backend="onnxruntime-cpu", state="warm") as kept,
        Embedder.load(bundle, backend="onnxruntime-cpu", state="warm") as original,
    ):
        found, expected = (elmo.embed(["a b c"])["elmo"][0] for elmo in (kept, original))
    assert found.tobytes() == expected.tobytes()
    assert recover_checkpoint(Bundle.open(copy)).tensors


def test_b3_bytes_that_change_after_the_check_are_not_parsed(bundle, copy):
    """Files were read again by path, so that unchecked bytes could be parsed."""
    opened = Bundle.open(copy)
    for name in opened.files:
        path = copy / name
        path.write_bytes(b"s" * path.stat().st_size)
        with pytest.raises(BundleCorruptError, match="does not have the SHA-256"):
            opened.read(name)
    with pytest.raises(BundleCorruptError):
        open_cpu(opened, "fp32", BackendOptions())
    with pytest.raises(BundleCorruptError):
        read_warm(opened)
    with pytest.raises(BundleCorruptError):
        golden_char_ids(opened)


def stretch(path: Path) -> None:
    """Extend a sparse file to 4 GB."""
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
    "a device as the manifest": lambda folder: (
        (folder / MANIFEST).unlink(),
        (folder / MANIFEST).symlink_to("/dev/zero"),
    ),
    "a claim of infinity": lambda folder: forge(
        folder, lambda m: next(iter(m["files"].values())).update(bytes=float("inf"))
    ),
}


def cost_of_greed(copy: Path, bundle: Path) -> tuple[int, list[str]]:
    """The maximum memory growth in bytes, and the bundles that were accepted."""
    growth, accepted = 0, []
    for name, change in GREED.items():
        with corrupted(copy, lambda change=change: change(copy), bundle):
            memory.reset_peak()
            before = memory.resident()
            try:
                Bundle.open(copy)
                accepted.append(name)
            except BundleCorruptError:
                growth = max(growth, memory.peak() - before)
    return growth, accepted


def test_b4_a_greedy_bundle_takes_no_memory(bundle, copy, kept):
    growth, accepted = cost_of_greed(copy, bundle)
    assert accepted == []
    assert growth < GREED_LIMIT
    kept("B4", f"{len(GREED)} greedy bundles rejected within {growth / memory.MIB:.0f} MiB")


@pytest.mark.slow
def test_b4_control_reading_before_checking_the_size(bundle, copy, caught, monkeypatch):
    def read_first(path: Path, *, limit: int) -> bytes:
        with path.open("rb") as stream:
            return stream.read(1 << 28)

    monkeypatch.setattr("elmo_runtime.bundle.manifest.read_small_file", read_first)
    growth, _ = cost_of_greed(copy, bundle)
    assert growth > GREED_LIMIT
    caught("B4", f"grew by {growth / memory.MIB:.0f} MiB")
