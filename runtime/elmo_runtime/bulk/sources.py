"""What the caller names (files, folders, globs, `-`) -> the inputs to read, in a fixed order.

Knows names and suffixes; opens nothing.
"""

from __future__ import annotations

import glob
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from elmo_runtime.errors import InputError

STDIN = "-"
FORMATS = ("text", "jsonl", "parquet")
SUFFIXES = {
    ".txt": "text",
    ".text": "text",
    ".tok": "text",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".parquet": "parquet",
}


@dataclass(frozen=True)
class Source:
    """One input. name: what ids and messages call it; path None is standard input."""

    name: str
    path: Path | None
    format: str

    @property
    def compressed(self) -> bool:
        """Whether it is read through gzip."""
        return self.path is not None and self.path.suffix.lower() == ".gz"

    @property
    def size(self) -> int | None:
        """Bytes on disk; None for standard input, whose end nobody knows."""
        return None if self.path is None else self.path.stat().st_size


def find_sources(arguments: Sequence[str], *, format: str = "auto") -> list[Source]:
    """The inputs that the arguments name, each once, folders and globs in sorted order.

    A file is called by its own name, or as it was given where two share a name; a file of a
    folder by its way from that folder. Raises InputError when nothing is found, something is
    named twice, or format is neither "auto" nor one of FORMATS.
    """
    if format not in ("auto", *FORMATS):
        raise InputError(f"input format is {format!r}", hint=f"use auto, {', '.join(FORMATS)}")
    found: list[tuple[str, Path | None]] = []
    for argument in arguments:
        found += [(STDIN, None)] if argument == STDIN else _files_of(argument)
    if not found:
        raise InputError("no input was named")
    _refuse_repeats(found)
    names = Counter(name for name, _ in found)
    return [
        Source(name if names[name] == 1 else str(path), path, _format_of(path, format))
        for name, path in found
    ]


def _files_of(argument: str) -> list[tuple[str, Path | None]]:
    path = Path(argument)
    if path.is_dir():
        return _files_below(path)
    if path.exists():
        return [(path.name, path)]
    matches = sorted(Path(name) for name in glob.glob(argument, recursive=True))
    files: list[tuple[str, Path | None]] = [(match.name, match) for match in matches]
    if not files:
        raise InputError(f"{argument} does not exist", hint="name a file, a folder, a glob or -")
    return [entry for entry in files if entry[1] is not None and entry[1].is_file()]


def _files_below(folder: Path) -> list[tuple[str, Path | None]]:
    """Its files with a known suffix; names that start with . or _ are other programs' marks."""
    files: list[tuple[str, Path | None]] = []
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder)
        hidden = any(part.startswith((".", "_")) for part in name.parts)
        if not hidden and path.is_file() and _suffix_of(path) in SUFFIXES:
            files.append((name.as_posix(), path))
    if not files:
        raise InputError(
            f"{folder} holds no input", hint=f"known are {', '.join(SUFFIXES)}, each also as .gz"
        )
    return files


def _refuse_repeats(found: Sequence[tuple[str, Path | None]]) -> None:
    for path, count in Counter(path.resolve() if path else None for _, path in found).items():
        if count > 1:
            raise InputError(f"{path or 'standard input'} is named {count} times, name it once")


def _suffix_of(path: Path) -> str:
    name = path.with_suffix("") if path.suffix.lower() == ".gz" else path
    return name.suffix.lower()


def _format_of(path: Path | None, wanted: str) -> str:
    if wanted != "auto":
        return wanted
    return "text" if path is None else SUFFIXES.get(_suffix_of(path), "text")
