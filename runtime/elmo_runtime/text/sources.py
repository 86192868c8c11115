"""Arguments (files, directories, globs, `-`) -> the inputs to read, in a fixed order.

It knows names and suffixes, and opens no file.
"""

from __future__ import annotations

import glob
import os
import stat
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from elmo_runtime.errors import InputError
from elmo_runtime.text.suffixes import FORMATS, SUFFIXES, foreign_suffix, suffix_of

STDIN = "-"
Found = tuple[str, Path | None]  # the name and the path of an input


@dataclass(frozen=True, kw_only=True)
class Fields:
    """The names of the columns (Parquet) or keys (JSON lines) to read.

    text: a string, split at white space, or a list of tokens. id: a string or an integer; without
    it the id of a record is file and line.
    """

    text: str = "text"
    id: str | None = None


@dataclass(frozen=True)
class Source:
    """One input. name: its name in ids and messages. path: None is standard input."""

    name: str
    path: Path | None
    format: str
    fields: Fields = Fields()

    @property
    def size(self) -> int | None:
        """Bytes on disk; None for standard input and pipes, whose end is unknown."""
        if self.path is None:
            return None
        status = self.path.stat()
        return status.st_size if stat.S_ISREG(status.st_mode) else None


def find_sources(
    arguments: Sequence[str], *, format: str = "auto", fields: Fields | None = None
) -> list[Source]:
    """The inputs that the arguments name, each once, directories and globs in sorted order.

    A file is called by its own name, or as it was given where two share a name; a file of a
    folder by its way from that folder. Raises InputError when nothing is found, something is
    named twice, format is neither "auto" nor one of FORMATS, or "auto" meets a file that its
    suffix says to be no text.
    """
    found = [entry for argument in arguments for entry in files_of(argument, format=format)]
    if not found:
        raise InputError("no input was named")
    _refuse_repeats(found)
    names = Counter(name for name, _ in found)
    return [
        Source(
            printable(name if names[name] == 1 else str(path)),
            path,
            _format_of(path, format),
            fields or Fields(),
        )
        for name, path in found
    ]


def source_at(path: Path, *, format: str = "auto", fields: Fields | None = None) -> Source:
    """One file, named by its path. Raises InputError for a suffix of files that are not text."""
    return Source(printable(str(path)), path, _format_of(path, format), fields or Fields())


def printable(name: str) -> str:
    """The name with escapes for bytes that are not UTF-8, so that any file can contain it."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def files_of(argument: str, *, format: str = "auto") -> list[Found]:
    """The names and paths of one argument. Raises InputError if there are none."""
    if format not in ("auto", *FORMATS):
        raise InputError(f"input format is {format!r}", hint=f"use auto, {', '.join(FORMATS)}")
    if argument == STDIN:
        return [(STDIN, None)]
    path = Path(argument)
    if path.is_dir():
        return list(_files_below(path, format))
    if path.exists():  # before the glob, because a name may contain its characters: a[1].txt
        return [(path.name, path)]
    matches = [Path(name) for name in sorted(glob.glob(argument, recursive=True))]
    if not matches:
        hint = "name a file, a directory or a quoted pattern, or use - to read stdin"
        raise InputError(f"{printable(argument)} does not exist", hint=hint)
    return [(match.name, _existing(match)) for match in matches if not match.is_dir()]


def _existing(path: Path) -> Path:
    if not path.exists():
        raise InputError(f"{path} is a broken link", hint="repair it or remove it")
    return path


def _files_below(folder: Path, format: str) -> Iterator[Found]:
    """Its files with a known suffix; other programs use names that start with . or _."""
    wanted = set(SUFFIXES) if format == "auto" else {s for s, f in SUFFIXES.items() if f == format}
    paths = sorted(path for path in _walk(folder) if suffix_of(path) in wanted)
    seen = set()
    for path in paths:
        real = _existing(path).resolve()
        if path.is_file() and real not in seen:  # links may lead to one file on two paths
            seen.add(real)
            yield path.relative_to(folder).as_posix(), path
    if not seen:
        suffixes = ", ".join(sorted(wanted))
        raise InputError(f"{folder} holds no input", hint=f"known are {suffixes}, each also as .gz")


def _walk(folder: Path) -> Iterator[Path]:
    """All files below a directory; links to directories are followed, loops only once."""
    above: dict[str, set[tuple[int, int]]] = {str(folder): set()}
    for place, folders, files in os.walk(folder, followlinks=True, onerror=_refuse_unreadable):
        status = Path(place).stat()
        here = (status.st_dev, status.st_ino)
        entered = above.pop(place)
        folders[:] = [] if here in entered else [name for name in folders if _is_open(name)]
        if here in entered:
            continue
        above |= {os.path.join(place, name): entered | {here} for name in folders}
        yield from (Path(place, name) for name in files if _is_open(name))


def _is_open(name: str) -> bool:
    return not name.startswith((".", "_"))


def _refuse_unreadable(error: OSError) -> None:
    raise InputError(f"{error.filename} cannot be read: {error.strerror}") from error


def _refuse_repeats(found: Sequence[Found]) -> None:
    for path, count in Counter(path.resolve() if path else None for _, path in found).items():
        if count > 1:
            raise InputError(f"{path or 'standard input'} is named {count} times, name it once")


def _format_of(path: Path | None, wanted: str) -> str:
    if wanted != "auto":
        return wanted
    if path is None:
        return "text"
    if advice := foreign_suffix(path):
        raise InputError(
            f"{path} does not hold one sentence per line, by its suffix {suffix_of(path)}",
            hint=f'{advice}; format "text" (--format text) reads its lines as they are',
        )
    return SUFFIXES.get(suffix_of(path), "text")
