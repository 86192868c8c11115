"""The one atomic writer, and bounded reading. An artefact is whole or absent."""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import os
import secrets
import shutil
import stat
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from elmo_runtime.errors import InputError

_RENAME_EXCHANGE = 2  # linux/fs.h


@contextlib.contextmanager
def atomic_directory(target: Path) -> Iterator[Path]:
    """Yield a scratch directory beside `target`; on success it takes target's place.

    An old `target` stays until the new one is whole and on disk, and is then removed.
    """
    target = Path(target).absolute()  # "." has neither a name nor a parent
    scratch = _beside(target)
    scratch.mkdir()
    mode = stat.S_IMODE(scratch.stat().st_mode)  # what the umask leaves
    try:
        yield scratch
        for path in scratch.rglob("*"):
            path.chmod(mode if path.is_dir() else mode & 0o666)  # safetensors writes 0600
            _sync(path)
        _sync(scratch)
        _replace_directory(scratch, target)
        _sync(target.parent)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


@contextlib.contextmanager
def atomic_file(target: Path) -> Iterator[Path]:
    """Yield a scratch path beside `target`; on success it is renamed to `target`."""
    target = Path(target).absolute()  # "." has neither a name nor a parent
    scratch = _beside(target)
    scratch.touch(exist_ok=False)
    mode = stat.S_IMODE(scratch.stat().st_mode)  # what the umask leaves
    try:
        yield scratch
        scratch.chmod(mode)  # the writer may have put a file of its own there
        _sync(scratch)
        scratch.replace(target)
        _sync(target.parent)
    finally:
        scratch.unlink(missing_ok=True)


def refuse_foreign(target: Path, *, marker: str) -> None:
    """Raise InputError unless `target` is absent, empty or a folder that holds the file `marker`.

    Ask before the work that ends in `atomic_directory`, which removes what it replaces.
    """
    if not target.exists():
        return
    if not target.is_dir() or (any(target.iterdir()) and not (target / marker).is_file()):
        raise InputError(
            f"{target} exists and holds no {marker}, so it is not replaced",
            hint="name a new directory, or remove the old one first",
        )


def sha256_of(path: Path) -> str:
    """The hexadecimal SHA-256 digest of a file."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _beside(target: Path) -> Path:
    """A new name in the folder of `target`, which is made if need be."""
    target.parent.mkdir(parents=True, exist_ok=True)
    return target.parent / f".{target.name}.{secrets.token_hex(8)}"


def _replace_directory(scratch: Path, target: Path) -> None:
    if not target.exists():
        scratch.rename(target)
        return
    if _exchange(scratch, target):
        return  # the old one now stands where the caller removes its scratch
    old = Path(tempfile.mkdtemp(prefix=f".{target.name}.old.", dir=target.parent)) / target.name
    target.rename(old)  # a directory cannot be renamed onto a full one; the gap is two renames wide
    try:
        scratch.rename(target)
    except OSError:
        old.rename(target)
        raise
    finally:
        shutil.rmtree(old.parent, ignore_errors=True)


def _exchange(scratch: Path, target: Path) -> bool:
    """Swap two directories in one step; False where only two renames can do it.

    A process killed between two renames left no bundle at all under its name.
    """
    if sys.platform != "linux" or target.is_symlink() or not target.is_dir():
        return False
    renameat2 = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if renameat2 is None:  # musl, or a glibc older than 2.28
        return False
    here = -100  # AT_FDCWD: relative paths start from the current directory
    paths = here, os.fsencode(scratch), here, os.fsencode(target)
    return bool(renameat2(*paths, _RENAME_EXCHANGE) == 0)


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
