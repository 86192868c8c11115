"""Atomic files and directories: each is complete under its name, or does not exist.

Every writer goes through `atomic_file` or `atomic_directory`. Both resolve links first, fail before
the work if nothing can be written, keep a second writer away, and leave nothing behind.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path

from elmo_runtime.errors import InputError
from elmo_runtime.files.replacing import (
    NEW,
    Format,
    can_be_exchanged,
    contents,
    exchange,
    fill,
    roll_back,
)
from elmo_runtime.files.scratch import INSIDE, clear, scratch_beside, scratch_directory
from elmo_runtime.files.storage import storage_errors, write_errors


@contextlib.contextmanager
def atomic_file(target: Path, *, wait: float = 0.0) -> Iterator[Path]:
    """Yield a scratch path; on success the file there is renamed to `target`.

    A link is resolved, so that the file it points to is replaced. wait: seconds to wait for
    another process that writes the same file. Raises ArtifactError when the disk is full or
    another process still writes, InputError if the target exists and is not a file.
    """
    target = _resolved(target)
    _refuse_special(target)
    with scratch_directory(scratch_beside(target), target=target, wait=wait) as place:
        clear(place)
        scratch = place / target.name
        with storage_errors(target):
            scratch.touch(exist_ok=False)
            mode = stat.S_IMODE(scratch.stat().st_mode)  # the mode that the umask leaves
            yield scratch
        with write_errors(target):
            scratch.chmod(mode)  # the writer may have created a new file there
            _sync(scratch)
            scratch.replace(target)
            _sync(target.parent)


@contextlib.contextmanager
def atomic_directory(target: Path, *, kind: Format) -> Iterator[Path]:
    """Yield a scratch directory; on success its files become those of the directory `target`.

    An existing `target` must be of the format `kind`, or empty. Files of other programs stay; if
    they are in the way, InputError names them. Raises ArtifactError when the disk is full or
    another process writes there.
    """
    target = _resolved(target)
    place, within = _place_for(target, kind)
    with scratch_directory(place, target=target) as scratch:
        if within:
            roll_back(target, scratch)
        clear(scratch)
        contents(target, kind)  # fail before the work
        new = scratch / NEW
        with storage_errors(target):
            new.mkdir()
            yield new
        with write_errors(target):
            _finish_files(new)
            _put_in_place(new, target, kind, within=within)
            _sync(target.parent)


def check_directory(target: Path, *, kind: Format) -> None:
    """Raise the errors of `atomic_directory` before the work; leaves nothing behind."""
    target = _resolved(target)
    place, within = _place_for(target, kind)
    with scratch_directory(place, target=target) as scratch:
        if within:
            roll_back(target, scratch)
        contents(target, kind)


def check_file(target: Path, *, wait: float = 0.0) -> None:
    """Raise the errors of `atomic_file` before the work; leaves nothing behind."""
    target = _resolved(target)
    _refuse_special(target)
    with scratch_directory(scratch_beside(target), target=target, wait=wait):
        pass


def refuse_inputs(target: Path, inputs: Iterable[Path | None]) -> None:
    """Raise InputError when `target`, which is about to be written, is one of the inputs."""
    resolved = _resolved(target)
    if any(path is not None and _resolved(path) == resolved for path in inputs):
        raise InputError(f"{target} is also an input", hint="write to another file")


def sha256_of(path: Path) -> str:
    """The hexadecimal SHA-256 digest of a file."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _resolved(target: Path) -> Path:
    return Path(os.path.realpath(target))  # "." has neither a name nor a parent


def _refuse_special(target: Path) -> None:
    """A rename would replace /dev/null or a named pipe by a file."""
    if target.exists() and not target.is_file():
        what = "a directory" if target.is_dir() else "not a regular file"
        raise InputError(f"{target} is {what}", hint="name a file to write")


def _place_for(target: Path, kind: Format) -> tuple[Path, bool]:
    """The scratch directory for `target`, and whether it is inside, to fill target from within."""
    beside, inside = scratch_beside(target), target / INSIDE
    if not target.is_dir():
        return beside, False
    if inside.exists():  # a killed writer left files to roll back, or another one is active
        return inside, True
    found = contents(target, kind)
    only_owned = bool(found.owned) and not found.foreign
    return (beside, False) if only_owned and can_be_exchanged(target) else (inside, True)


def _finish_files(folder: Path) -> None:
    """Give the files the mode that the umask leaves (safetensors writes 0600), and sync them."""
    mode = stat.S_IMODE(folder.stat().st_mode)
    for path in folder.rglob("*"):
        path.chmod(mode if path.is_dir() else mode & 0o666)
        _sync(path)
    _sync(folder)


def _put_in_place(new: Path, target: Path, kind: Format, *, within: bool) -> None:
    if within:
        fill(target, new.parent, kind)
    elif target.exists():
        exchange(new, target, kind)
    else:
        new.rename(target)


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
