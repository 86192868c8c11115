"""Changes that corrupt a bundle, by accident or as a forger would."""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from elmo_runtime.bundle.manifest import MANIFEST, MANIFEST_DIGEST

Change = Callable[[], object]
KINDS = ("cut", "append", "remove", "swap", "rename", "add")
EVERY = 4  # one change in four is of KINDS, the others flip one bit


@contextmanager
def corrupted(folder: Path, change: Change, spare: Path) -> Iterator[None]:
    """Apply a change to a bundle, and afterwards restore it from `spare`."""
    change()
    try:
        yield
    finally:
        shutil.rmtree(folder)
        shutil.copytree(spare, folder)


def accidents(folder: Path, count: int, generator: random.Random) -> Iterator[tuple[str, Change]]:
    """Yield `count` named changes: flipped bits, cuts, swaps, missing and unexpected files."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    for number in range(count):
        kind = "flip" if number % EVERY else KINDS[number // EVERY % len(KINDS)]
        path, other = generator.sample(files, 2)
        at, bit = generator.randrange(path.stat().st_size), 1 << generator.randrange(8)
        yield f"{kind} {path.name} at {at}", _accident(kind, path, other, at, bit)


def _accident(kind: str, path: Path, other: Path, at: int, bit: int) -> Change:
    content = path.read_bytes()
    flipped = content[:at] + bytes([content[at] ^ bit]) + content[at + 1 :]
    return {
        "flip": lambda: path.write_bytes(flipped),
        "cut": lambda: os.truncate(path, at),
        "append": lambda: path.write_bytes(content + b"\0"),
        "remove": path.unlink,
        "swap": lambda: (path.write_bytes(other.read_bytes()), other.write_bytes(content)),
        "rename": lambda: path.rename(path.with_name(f"{path.name}.old")),
        "add": lambda: path.with_name(f"more-{at}.onnx").write_bytes(content),
    }[kind]


def forge(folder: Path, edit: Callable[[dict[str, Any]], object]) -> None:
    """Edit the manifest and update its digest."""
    content = json.loads((folder / MANIFEST).read_text())
    edit(content)
    put_manifest(folder, json.dumps(content).encode())


def put_manifest(folder: Path, text: bytes) -> None:
    """Write these bytes as the manifest, with their digest."""
    (folder / MANIFEST).write_bytes(text)
    line = f"{hashlib.sha256(text).hexdigest()}  {MANIFEST}\n"
    (folder / MANIFEST_DIGEST).write_text(line)


def replace_file(folder: Path, name: str, content: bytes | None) -> None:
    """Replace a listed file, or remove it for None, and update the digests."""
    (folder / name).unlink()
    if content is None:
        forge(folder, lambda manifest: manifest["files"].pop(name))
        return
    (folder / name).write_bytes(content)
    entry = {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    forge(folder, lambda manifest: manifest["files"].update({name: entry}))


def graph_of(content: dict[str, Any], part: str) -> dict[str, Any]:
    """The first graph of a part in a manifest's content."""
    return next(graph for graph in content["graphs"] if graph["part"] == part)
