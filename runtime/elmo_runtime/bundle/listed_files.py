"""The files that the manifest of a bundle lists, with their sizes and digests.

The digest of the bytes that are read decides. A file may be a link, as in the cache of the Hugging
Face hub, or have hard links elsewhere, as in a backup.
"""

from __future__ import annotations

import hashlib
import os
import re
import stat
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path
from typing import Any

from elmo_runtime.errors import BundleCorruptError

# Desktops and file systems leave these; names that begin with a dot are ignored as well.
DROPPINGS = frozenset({"thumbs.db", "desktop.ini", "icon\r", "__macosx", "@eadir", "lost+found"})
_SAFE_PART = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}")
_AGAIN = "copy or export the bundle again"


@dataclass(frozen=True, kw_only=True)
class FileEntry:
    """The size and the SHA-256 that the manifest lists for a file."""

    bytes: int
    sha256: str


def listed_files(content: Mapping[str, Any]) -> dict[str, FileEntry]:
    """The files in a manifest, by names that cannot lead out of the bundle.

    Raises BundleCorruptError.
    """
    try:
        listed = {
            str(name): FileEntry(bytes=int(entry["bytes"]), sha256=str(entry["sha256"]))
            for name, entry in content["files"].items()
        }
    except (KeyError, TypeError, ValueError, OverflowError, AttributeError) as error:
        raise BundleCorruptError(f"the manifest's list of files is malformed: {error}") from error
    if len({name.casefold() for name in listed}) < len(listed):
        raise BundleCorruptError("the manifest lists two files that differ only by case")
    for name in listed:
        if not all(_SAFE_PART.fullmatch(part) for part in name.split("/")):
            raise BundleCorruptError(f"the manifest lists {name!r}, not the name of a bundle file")
    return listed


def check_files(
    folder: Path, listed: Mapping[str, FileEntry], *, others: Collection[str], skipped: str
) -> None:
    """Raise BundleCorruptError unless `folder` contains the listed files and no unexpected one.

    others: further files that are allowed. skipped: a directory that is not searched.
    Hidden files and DROPPINGS are ignored.
    """
    for name in _names_below(folder, skipped):
        if name not in listed and name not in others:
            raise BundleCorruptError(
                f"{folder}: {name} is not listed in the manifest", hint="move it out of the bundle"
            )
    for name, entry in listed.items():  # every size before the first byte is read
        with _plain_file(folder / name) as stream:
            size = os.fstat(stream.fileno()).st_size
        if size != entry.bytes:
            raise BundleCorruptError(
                f"{folder / name} has {size} bytes, the manifest says {entry.bytes}", hint=_AGAIN
            )
    for name, entry in listed.items():
        with _plain_file(folder / name) as stream:
            _check_digest(folder / name, entry, hashlib.file_digest(stream, "sha256").hexdigest())


def read_listed(folder: Path, name: str, entry: FileEntry) -> bytes:
    """The content of a listed file. The digest of the returned bytes is checked."""
    with _plain_file(folder / name) as stream:
        content = stream.read(entry.bytes + 1)
    _check_digest(folder / name, entry, hashlib.sha256(content).hexdigest())
    return content


def read_small_file(path: Path, *, limit: int) -> bytes:
    """The content of a file of at most `limit` bytes. Raises BundleCorruptError."""
    with _plain_file(path) as stream:
        content = stream.read(limit + 1)
    if len(content) > limit:
        raise BundleCorruptError(f"{path} has more than {limit} bytes", hint=_AGAIN)
    return content


@contextmanager
def _plain_file(path: Path) -> Iterator[BufferedReader]:
    """Open a file, possibly through a link, but never a pipe or a device, which could block."""
    try:
        handle = -1
        if stat.S_ISREG(path.stat().st_mode):  # a device may notice an open
            handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
    except OSError as error:
        raise BundleCorruptError(
            f"{path} cannot be read: {error.strerror or error}", hint=_AGAIN
        ) from error
    if handle < 0:
        raise BundleCorruptError(f"{path} is not a plain file", hint=_AGAIN)
    with os.fdopen(handle, "rb") as stream:
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            raise BundleCorruptError(f"{path} is not a plain file", hint=_AGAIN)
        yield stream


def _check_digest(path: Path, entry: FileEntry, digest: str) -> None:
    if digest != entry.sha256:
        raise BundleCorruptError(
            f"{path} does not have the SHA-256 that the manifest lists",
            hint=f"a byte changed since the export: {_AGAIN}",
        )


def _names_below(folder: Path, skipped: str) -> Iterator[str]:
    """The names of files that are not ignored. Linked directories are not searched."""
    for parent, directories, files in os.walk(folder):
        below = Path(parent)
        directories[:] = [
            name
            for name in directories
            if not _is_ignored(name) and (below, name) != (folder, skipped)
        ]
        yield from (
            (below / name).relative_to(folder).as_posix() for name in files if not _is_ignored(name)
        )


def _is_ignored(name: str) -> bool:
    return name.startswith(".") or name.casefold() in DROPPINGS
