"""Text files, plain or .gz -> lines and sentences; names file and line of what is wrong."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator, Sequence
from glob import glob
from pathlib import Path
from typing import BinaryIO

from elmo_runtime.errors import ArtefactError, InputError


class TextError(ArtefactError):
    """A text file cannot be read as lines of UTF-8."""


def find_shards(patterns: Sequence[str]) -> tuple[Path, ...]:
    """The files that the patterns name, sorted, each once. Raises InputError if there are none."""
    found = {Path(name) for pattern in patterns for name in glob(pattern, recursive=True)}
    shards = tuple(sorted(path for path in found if path.is_file()))
    if not shards:
        raise InputError(
            f"no file matches {', '.join(patterns)}", hint="quote the pattern, as in 'shards/*.gz'"
        )
    return shards


def read_lines(path: Path) -> Iterator[str]:
    """The lines of a file without their ends, in bounded memory.

    Raises TextError naming file and line for bytes that are not UTF-8, and for a torn .gz.
    """
    number = 0
    try:
        with _open(path) as stream:
            for line in stream:
                number += 1
                yield line.rstrip(b"\r\n").decode("utf-8")
    except UnicodeDecodeError as error:
        raise TextError(
            f"{path}:{number}: not UTF-8: byte 0x{error.object[error.start]:02x}"
            f" at column {error.start + 1}",
            hint="convert the file: iconv -f ENCODING -t UTF-8",
        ) from error
    except (OSError, EOFError, zlib.error) as error:
        raise TextError(f"{path}:{number + 1}: cannot be read: {error}") from error


def read_sentences(path: Path) -> Iterator[list[str]]:
    """The tokens of each line, split at white space; blank lines are passed over."""
    for number, line in enumerate(read_lines(path), start=1):
        if "\0" in line:
            raise TextError(f"{path}:{number}: holds a NUL byte, so it is no text")
        if tokens := line.split():
            yield tokens


def read_all_sentences(shards: Sequence[Path]) -> Iterator[list[str]]:
    """The sentences of all files once and in order."""
    for shard in shards:
        yield from read_sentences(shard)


def _open(path: Path) -> BinaryIO | gzip.GzipFile:
    return gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb")
