"""Sources of any format -> records, one at a time and in order.

A line without a sentence becomes a BadRecord with file and line, never an exception, so that the
caller decides what to do. Memory is bounded by the longest line allowed.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from typing import BinaryIO, cast

from elmo_runtime.errors import InputError
from elmo_runtime.text import conllu, fasta, json_lines, parquet, plain_text
from elmo_runtime.text.lines import numbered_lines, unpacked
from elmo_runtime.text.records import BadRecord, Record
from elmo_runtime.text.sources import Fields, Source


class Corpus:
    """The records of several inputs, one after another; iterate it once.

    `fields` replaces those of the sources. Raises InputError for an input that does not have its
    format: a Parquet file without the text column, a file that cannot be opened.
    """

    def __init__(self, sources: Sequence[Source], *, fields: Fields | None = None) -> None:
        self._sources = [replace(s, fields=fields) if fields else s for s in sources]
        sizes = [source.size for source in sources]
        self._total = None if None in sizes else sum(cast("list[int]", sizes))
        self._finished = 0  # bytes of the inputs that were read completely
        self._stream: BinaryIO | None = None

    def __iter__(self) -> Iterator[Record | BadRecord]:
        for source in self._sources:
            with ExitStack() as stack:
                self._stream = _open(source, stack)
                yield from _records(source, self._stream)
                self._stream = None
            self._finished += source.size or 0

    @property
    def fraction_read(self) -> float | None:
        """The share of the bytes on disk that was read; None with a pipe or standard input."""
        if not self._total:
            return None
        here = self._stream.tell() if self._stream else 0
        return min(1.0, (self._finished + here) / self._total)


def read_source(source: Source) -> Iterator[Record | BadRecord]:
    """The records of one input."""
    with ExitStack() as stack:
        yield from _records(source, _open(source, stack))


def _open(source: Source, stack: ExitStack) -> BinaryIO:
    if source.path is None:
        return sys.stdin.buffer
    try:
        return stack.enter_context(source.path.open("rb"))
    except OSError as error:
        raise InputError(f"{source.path} cannot be opened: {error.strerror}") from error


def _records(source: Source, raw: BinaryIO) -> Iterator[Record | BadRecord]:
    if source.format == "parquet":
        return parquet.read(raw, source.name, source.fields)
    stream = unpacked(raw, source.path)
    if source.format == "jsonl":
        lines = numbered_lines(stream, source.name, carriage_return_ends=False)
        return json_lines.read(lines, source.fields)
    read = {"text": plain_text.read, "fasta": fasta.read, "conllu": conllu.read}[source.format]
    return read(numbered_lines(stream, source.name))
