"""A new version of a directory replaces an old one, and nothing else.

A `Format` says which files of a directory earlier versions wrote. Only those are ever replaced
or removed. A directory without other files is exchanged in one step. Otherwise, and if the
directory itself cannot be moved (a mount point, a parent that is not writable), the new files are
moved into it one by one, the file that makes it valid last.
"""

from __future__ import annotations

import ctypes
import json
import os
import shutil
import sys
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from elmo_runtime.errors import InputError
from elmo_runtime.files.scratch import INSIDE, MOVES

NEW, OLD = "new", "old"  # in the scratch directory of a filled directory
_RENAME_EXCHANGE = 2  # linux/fs.h
_NAMED = 3  # files that an error names
_ESCAPED = {"\\040": " ", "\\011": "\t", "\\012": "\n", "\\134": "\\"}  # in mountinfo


def _no_files(*_: Path) -> Collection[str]:
    return ()


@dataclass(frozen=True, kw_only=True)
class Format:
    """A kind of directory that this package writes.

    owned: the files of an existing directory that this package wrote, relative to it; none if it
    has another format. reserved: top-level names that a new version writes or removes. last: the
    files that make the directory valid. keeps: (old directory, new directory) -> the files of
    `owned` that stay.
    """

    name: str
    owned: Callable[[Path], Collection[str]] = _no_files
    reserved: tuple[str, ...] = ()
    last: tuple[str, ...] = ()
    keeps: Callable[[Path, Path], Collection[str]] = _no_files


@dataclass(frozen=True)
class Contents:
    """The files of a directory: those of this package, and those of other programs."""

    owned: frozenset[str]
    foreign: frozenset[str]


def contents(target: Path, kind: Format) -> Contents:
    """The content of `target`. Raises InputError with the files that a write would remove."""
    if not target.exists():
        return Contents(frozenset(), frozenset())
    if not target.is_dir():
        raise InputError(
            f"{target} is a file, so no {kind.name} is written there", hint="name a new directory"
        )
    found = _sorted_out(target, kind)
    if not found.owned and (visible := sorted(n for n in found.foreign if not _is_aside(n))):
        raise InputError(
            f"{target} is not replaced: it is no {kind.name} of elmo-deploy and holds"
            f" {_listed(visible)}",
            hint="name a new directory, or move these files away first",
        )
    _refuse_lost(target, [n for n in found.foreign if n.partition("/")[0] in kind.reserved])
    return found


def _sorted_out(target: Path, kind: Format) -> Contents:
    claimed = frozenset(kind.owned(target))
    if not claimed:  # the names at the top are enough; a home directory has millions below
        return Contents(claimed, frozenset(path.name for path in target.iterdir()) - {INSIDE})
    present = frozenset(files_below(target))
    return Contents(present & claimed, present - claimed)


def _refuse_lost(target: Path, names: Iterable[str]) -> None:
    if lost := sorted(names):
        raise InputError(
            f"{target} is not replaced: it holds {_listed(lost)}, not written by elmo-deploy",
            hint="move these files away first, or name a new directory",
        )


def _is_aside(name: str) -> bool:
    """Whether a file may be in a directory that counts as empty: .git, .DS_Store, lost+found."""
    return name.startswith(".") or name.partition("/")[0] == "lost+found"


def _listed(names: list[str]) -> str:
    more = len(names) - _NAMED
    return ", ".join(names[:_NAMED]) + (f" and {more} more" if more > 0 else "")


def files_below(folder: Path) -> Iterator[str]:
    """Relative names of everything but directories; links are not followed."""
    for root, directories, names in os.walk(folder):
        place = Path(root)
        if place == folder and INSIDE in directories:
            directories.remove(INSIDE)
        links = [name for name in directories if (place / name).is_symlink()]
        for name in (*names, *links):
            yield (place / name).relative_to(folder).as_posix()


def can_be_exchanged(target: Path) -> bool:
    """Whether the directory itself may be moved: no mount point, and a writable parent."""
    return os.access(target.parent, os.W_OK | os.X_OK) and target not in _mount_points()


def _mount_points() -> set[Path]:
    """os.path.ismount misses a directory that is mounted from the same file system."""
    try:
        lines = Path("/proc/self/mountinfo").read_text("utf-8", "surrogateescape").splitlines()
    except OSError:
        return set()
    places = [line.split(" ")[4] for line in lines if line.count(" ") > 4]
    for code, character in _ESCAPED.items():
        places = [place.replace(code, character) for place in places]
    return {Path(place) for place in places}


def exchange(new: Path, target: Path, kind: Format) -> None:
    """Exchange `new` and `target`, which has no files of other programs."""
    found = contents(target, kind)
    _refuse_lost(target, found.foreign.intersection(files_below(new)))
    for name in kind.keeps(target, new):
        _link(target / name, new / name)
    if not _swap(new, target):
        old = new.parent / OLD
        target.rename(old)  # no rename replaces a full directory; two renames leave a gap
        try:
            new.rename(target)
        except OSError:
            old.rename(target)
            raise
        old.rename(new)
    for name in set(files_below(new)) - found.owned:  # another process created it
        _move(new / name, target / name)


def _link(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        target.hardlink_to(source)
    except OSError:  # not every file system has hard links
        shutil.copy2(source, target)


def _swap(new: Path, target: Path) -> bool:
    """Swap two directories in one step; False if the system can only rename twice.

    A process killed between two renames left no bundle at all under its name.
    """
    if sys.platform != "linux":
        return False
    renameat2 = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if renameat2 is None:  # musl, or a glibc older than 2.28
        return False
    here = -100  # AT_FDCWD: relative paths start from the current directory
    paths = here, os.fsencode(new), here, os.fsencode(target)
    return bool(renameat2(*paths, _RENAME_EXCHANGE) == 0)


def fill(target: Path, scratch: Path, kind: Format) -> None:
    """Move the files of `scratch`/new into `target`, and the old ones without a successor out.

    The old files that make the directory valid go first and the new ones come last, so that a
    mixture is never valid. After an error or a kill, `roll_back` restores.
    """
    new, old = scratch / NEW, scratch / OLD
    found = contents(target, kind)
    added = sorted(files_below(new), key=lambda name: (name in kind.last, name))
    removed = found.owned - set(kind.keeps(target, new))
    _refuse_lost(target, found.foreign.intersection(added))
    _write_moves(scratch, added)
    try:
        for name in sorted(removed, key=lambda name: (name not in kind.last, name)):
            _move(target / name, old / name)
        for name in added:
            _move(new / name, target / name)
    except BaseException:
        roll_back(target, scratch)
        raise
    (scratch / MOVES).unlink()  # from here on the new version is complete
    _remove_empty_parents(target, removed)


def _write_moves(scratch: Path, added: Sequence[str]) -> None:
    unfinished = scratch / f"{MOVES}.tmp"
    unfinished.write_text(json.dumps({"added": added}), "utf-8")
    unfinished.rename(scratch / MOVES)


def roll_back(target: Path, scratch: Path) -> None:
    """Undo an incomplete `fill`; do nothing if there was none."""
    try:
        added = json.loads((scratch / MOVES).read_text("utf-8"))["added"]
    except (OSError, ValueError):  # none was begun: the list comes before the first move
        return
    for name in added:
        if not (scratch / NEW / name).exists():
            (target / name).unlink(missing_ok=True)
    for name in files_below(scratch / OLD):
        _move(scratch / OLD / name, target / name)
    (scratch / MOVES).unlink()
    _remove_empty_parents(target, added)


def _move(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    source.rename(target)


def _remove_empty_parents(target: Path, names: Collection[str]) -> None:
    """Remove the directories of these files if they are empty now."""
    parents = {parent for name in names for parent in (target / name).parents}
    inner = [path for path in parents if target in path.parents]
    for folder in sorted(inner, key=lambda path: len(path.parts), reverse=True):
        if folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()
