"""The hidden, locked directory in which one target is written until it is complete.

It is removed at the end. A killed process leaves it behind; the next writer of the same target
takes it over, because its lock is free, and clears it.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

from elmo_runtime.errors import ArtifactError
from elmo_runtime.files.locks import acquire, release
from elmo_runtime.files.storage import write_errors

SUFFIX = ".elmo-partial"
INSIDE = SUFFIX  # the scratch directory of a directory that is filled from within
OWNER = "owner"  # the lock file
MOVES = "moves.json"  # exists while files are moved; its content is needed to undo the move
_LOOKS = 20  # at a directory without a lock file, before it is taken for another program's
_LONGEST_NAME = 200  # bytes of the name of a target that are kept; a name has at most 255


def scratch_beside(target: Path) -> Path:
    """The scratch directory of `target` in the same parent directory."""
    name = target.name
    if len(os.fsencode(name)) > _LONGEST_NAME:
        name = hashlib.sha256(os.fsencode(name)).hexdigest()
    return target.parent / f".{name}{SUFFIX}"


@contextlib.contextmanager
def scratch_directory(place: Path, *, target: Path, wait: float = 0.0) -> Iterator[Path]:
    """Make and lock `place` for writing `target`; yield it, and remove it at the end.

    The files of a killed process are still in it: the caller recovers them or calls `clear`.
    Raises ArtifactError when another process writes the target or nothing can be written here.
    """
    with write_errors(target):
        made = _make_parents(place.parent)
        try:
            handle = _open(place, target, wait)
        except BaseException:
            _remove_empty(made)
            raise
    try:
        yield place
    finally:
        if not (place / MOVES).exists():
            clear(place)
        release(place / OWNER, handle)
        _remove_empty([place, *made])


def clear(place: Path) -> None:
    """Remove everything but the lock file."""
    for path in place.iterdir():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        elif path.name != OWNER:
            path.unlink(missing_ok=True)


def remove_abandoned(folder: Path) -> None:
    """Remove the scratch directories in `folder` whose writers have ended."""
    for place in folder.glob(f".*{SUFFIX}"):
        with contextlib.suppress(ArtifactError), scratch_directory(place, target=place):
            pass  # free ones are removed, those in use or of other programs are kept


def _open(place: Path, target: Path, wait: float) -> int:
    while True:
        place.mkdir(exist_ok=True)
        try:
            _require_ours(place)
            return acquire(place / OWNER, target=target, wait=wait)
        except FileNotFoundError:  # its last writer has just removed it
            continue
        except OSError:
            _remove_empty([place])
            raise


def _require_ours(place: Path) -> None:
    """Refuse a link or a directory without a lock file, because `clear` would empty it."""
    if place.is_symlink() or not _is_ours(place):
        raise ArtifactError(
            f"{place} is not a scratch directory of elmo-deploy",
            hint="rename or remove it, or write to another place",
        )


def _is_ours(place: Path) -> bool:
    """Whether it is empty or has a lock file, which another writer may be making right now."""
    for _ in range(_LOOKS):
        names = os.listdir(place)
        if OWNER in names or not names:
            return True
        time.sleep(0.01)
    return False


def _make_parents(folder: Path) -> list[Path]:
    """Make `folder`; the directories that did not exist, innermost first."""
    missing = [path for path in (folder, *folder.parents) if not path.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    return missing


def _remove_empty(folders: list[Path]) -> None:
    with contextlib.suppress(OSError):
        for folder in folders:
            folder.rmdir()
