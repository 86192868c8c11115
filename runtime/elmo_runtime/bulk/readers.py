"""Inputs -> records, one at a time: plain text, JSON lines and Parquet, the first two also gzipped.

A line that gives no sentence becomes a BadRecord with file and line, never an exception, so
that the caller decides what it means. Memory is bounded by the longest line allowed.
"""

from __future__ import annotations

import gzip
import json
import sys
import zlib
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, BinaryIO, cast

from elmo_runtime.bulk.arrow import import_pyarrow
from elmo_runtime.bulk.records import BadRecord, Record
from elmo_runtime.bulk.sources import Source
from elmo_runtime.characters import split
from elmo_runtime.errors import InputError

MAX_LINE_BYTES = 16 << 20
PARQUET_ROWS = 1024  # decoded at once
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


@dataclass(frozen=True, kw_only=True)
class Fields:
    """The names of the columns (Parquet) or keys (JSON lines) to read.

    text: a string, split on spaces, or a list of tokens. id: a string or an integer; without
    it a record is called by file and line.
    """

    text: str = "text"
    id: str | None = None


class Corpus:
    """The records of several inputs, one after the other; iterate it once.

    Raises InputError where an input as a whole cannot be what it is said to be: a Parquet
    file without the text column, a file that cannot be opened.
    """

    def __init__(self, sources: Sequence[Source], *, fields: Fields | None = None) -> None:
        self._sources = sources
        self._fields = fields or Fields()
        sizes = [source.size for source in sources]
        self._total = None if None in sizes else sum(cast("list[int]", sizes))
        self._finished = 0  # bytes of the inputs read to their end
        self._stream: BinaryIO | None = None

    def __iter__(self) -> Iterator[Record | BadRecord]:
        for source in self._sources:
            with ExitStack() as stack:
                self._stream = _open(source, stack)
                yield from self._read(source, self._stream)
                self._stream = None
            self._finished += source.size or 0

    @property
    def fraction_read(self) -> float | None:
        """How much of the bytes on disk was read, 0..1; None when standard input is among them."""
        if not self._total:
            return None
        here = self._stream.tell() if self._stream else 0
        return min(1.0, (self._finished + here) / self._total)

    def _read(self, source: Source, stream: BinaryIO) -> Iterator[Record | BadRecord]:
        if source.format == "parquet":
            return _read_parquet(source, stream, self._fields)
        return _read_lines(source, stream, self._fields)


def _open(source: Source, stack: ExitStack) -> BinaryIO:
    if source.path is None:
        return sys.stdin.buffer
    try:
        return stack.enter_context(source.path.open("rb"))
    except OSError as error:
        raise InputError(f"{source.path} cannot be opened: {error.strerror}") from error


def _read_lines(source: Source, raw: BinaryIO, fields: Fields) -> Iterator[Record | BadRecord]:
    stream = cast("BinaryIO", gzip.GzipFile(fileobj=raw)) if source.compressed else raw
    number = 0
    try:
        for number, line in enumerate(_lines(stream), start=1):
            where = f"{source.name}:{number}"
            if line is None:
                yield BadRecord(where, f"the line is longer than {MAX_LINE_BYTES} bytes")
                continue
            yield parse_line(line, where, source.format, fields)
    except (OSError, EOFError, zlib.error) as error:
        yield BadRecord(
            f"{source.name}:{number + 1}", f"cannot be read from here to its end: {error}"
        )


def _lines(stream: BinaryIO) -> Iterator[bytes | None]:
    r"""Lines without their end; None for one that is too long. Only \n and \r\n end a line."""
    first = True
    while line := stream.readline(MAX_LINE_BYTES + 1):
        if first:
            line, first = line.removeprefix(_BYTE_ORDER_MARK), False
        if len(line) <= MAX_LINE_BYTES or line.endswith(b"\n"):
            yield line.removesuffix(b"\n").removesuffix(b"\r")
            continue
        while not line.endswith(b"\n") and (line := stream.readline(MAX_LINE_BYTES)):
            pass
        yield None


def parse_line(line: bytes, where: str, format: str, fields: Fields) -> Record | BadRecord:
    """One line of a "text" or "jsonl" input."""
    parse = _parse_json if format == "jsonl" else _parse_text
    try:
        identity, tokens = parse(line.decode("utf-8"), where, fields)
    except UnicodeDecodeError as error:
        return BadRecord(where, f"not UTF-8: {error.reason} at byte {error.start} of the line")
    except (ValueError, RecursionError) as error:
        return BadRecord(where, str(error))
    return Record(identity, tokens, where)


def _parse_text(text: str, where: str, fields: Fields) -> tuple[str, tuple[str, ...]]:
    return where, tuple(split(text))


def _parse_json(text: str, where: str, fields: Fields) -> tuple[str, tuple[str, ...]]:
    content = json.loads(text)
    if not isinstance(content, dict):
        raise ValueError(f"holds {type(content).__name__}, must be a JSON object")
    if fields.text not in content:
        raise ValueError(f"has no field {fields.text!r}, its fields are {sorted(content)[:10]}")
    identity = where
    if fields.id is not None:
        identity = _identity(content.get(fields.id), fields.id)
    return identity, _sentence(content[fields.text], fields.text)


def _identity(value: object, field: str) -> str:
    if isinstance(value, str | int) and not isinstance(value, bool):
        return _encodable(str(value))
    raise ValueError(f"{field!r} is {value!r}, must be a string or an integer")


def _sentence(value: object, field: str) -> tuple[str, ...]:
    if isinstance(value, str):
        return tuple(split(_encodable(value)))
    if isinstance(value, list) and all(isinstance(token, str) for token in value):
        return tuple(_encodable(token) for token in value)
    raise ValueError(f"{field!r} is {type(value).__name__}, must be a string or a list of strings")


def _encodable(text: str) -> str:
    r"""JSON can spell "\ud800", which is no character and which no output file can hold."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise ValueError(f"lone surrogate at character {error.start}: not a text") from error
    return text


def _read_parquet(source: Source, stream: BinaryIO, fields: Fields) -> Iterator[Record | BadRecord]:
    number = 0
    try:
        for number, row in enumerate(_parquet_rows(source, stream, fields), start=1):
            where = f"{source.name}:{number}"
            try:
                identity = _identity(row[fields.id].as_py(), fields.id) if fields.id else where
                tokens = _sentence(row[fields.text].as_py(), fields.text)
            except ValueError as error:  # a string that is not UTF-8 among them
                yield BadRecord(where, str(error))
            else:
                yield Record(identity, tokens, where)
    except OSError as error:  # also what pyarrow raises for a damaged page
        yield BadRecord(
            f"{source.name}:{number + 1}", f"cannot be read from here to its end: {error}"
        )


def _parquet_rows(source: Source, stream: BinaryIO, fields: Fields) -> Iterator[dict[str, Any]]:
    """Rows as Arrow scalars, so that one bad value spoils one row."""
    pyarrow, parquet = import_pyarrow()
    wanted = [name for name in (fields.text, fields.id) if name is not None]
    try:
        file = parquet.ParquetFile(stream)
        _refuse_other_columns(source, file.schema_arrow.names, wanted)
        for batch in file.iter_batches(batch_size=PARQUET_ROWS, columns=wanted):
            columns = [(name, batch.column(name)) for name in wanted]
            for row in range(batch.num_rows):
                yield {name: column[row] for name, column in columns}
    except pyarrow.ArrowException as error:
        raise OSError(f"damaged, or not a Parquet file: {error}") from error


def _refuse_other_columns(source: Source, names: Sequence[str], wanted: Sequence[str]) -> None:
    for name in wanted:
        if name not in names:
            raise InputError(
                f"{source.name} has no column {name!r}", hint=f"its columns are {', '.join(names)}"
            )
