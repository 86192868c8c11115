r"""Bytes -> lines of text: UTF-8 with or without a byte order mark, in bounded memory.

A line ends at \n, \r\n or a lone \r, as in the text mode of Python, which bilm-tf and AllenNLP
use. Only JSON lines differ: there \r is white space of JSON, and only \n ends a line.
"""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple, cast

from elmo_runtime.errors import TextError
from elmo_runtime.text.records import BadRecord

MAX_LINE_BYTES = 16 << 20
UTF8_MARK = b"\xef\xbb\xbf"
_UTF16_MARKS = (b"\xff\xfe", b"\xfe\xff")
_GZIP_MARK = b"\x1f\x8b"
_PIECE_BYTES = 1 << 16
_MARK_AND_END = len(UTF8_MARK + b"\r\n")


class Line(NamedTuple):
    """A line without its end. where: file and line number, for messages."""

    text: str
    where: str


def numbered_lines(
    stream: BinaryIO, name: str, *, carriage_return_ends: bool = True
) -> Iterator[Line | BadRecord]:
    """The lines of a stream. A line that is not text is a BadRecord, and the next one is read."""
    number = 0
    try:
        lines = split_lines(stream, carriage_return_ends=carriage_return_ends)
        for number, line in enumerate(lines, start=1):
            yield _decoded(line, f"{name}:{number}")
    except (OSError, EOFError, zlib.error) as error:
        reason = f"cannot be read from here to its end: {error}"
        yield BadRecord(f"{name}:{number + 1}", reason)


def split_lines(stream: BinaryIO, *, carriage_return_ends: bool = True) -> Iterator[bytes | None]:
    """Lines without their ends, the first without a byte order mark; None for one too long."""
    mark = UTF8_MARK
    pieces: list[bytes] = []  # of the current line
    size = 0
    ends = (b"\n", b"\r") if carriage_return_ends else (b"\n",)
    for piece in _pieces(stream, carriage_return_ends):
        size += len(piece)
        if size <= MAX_LINE_BYTES + _MARK_AND_END:
            pieces.append(piece)
        if piece.endswith(ends):
            yield _line(b"".join(pieces).removeprefix(mark), size)
            mark, pieces, size = b"", [], 0
    if size:
        yield _line(b"".join(pieces).removeprefix(mark), size)


def read_lines(path: Path) -> Iterator[str]:
    """The lines of a text file, plain or .gz, without their ends.

    Raises TextError with file and line for bytes that are not UTF-8 and for a damaged .gz.
    """
    try:
        with path.open("rb") as raw:
            for line in numbered_lines(unpacked(raw, path), str(path)):
                if isinstance(line, BadRecord):
                    raise TextError(str(line))
                yield line.text
    except OSError as error:
        raise TextError(f"{path} cannot be read: {error.strerror or error}") from error


def unpacked(stream: BinaryIO, path: Path | None) -> BinaryIO:
    """The stream, decompressed if the name of its file ends in .gz."""
    if path is None or path.suffix.lower() != ".gz":
        return stream
    return cast("BinaryIO", gzip.GzipFile(fileobj=stream))


def _pieces(stream: BinaryIO, carriage_return_ends: bool) -> Iterator[bytes]:
    r"""Lines with their ends, or parts of lines; \r\n is never split."""
    held = b""
    while piece := stream.readline(_PIECE_BYTES):
        piece = held + piece
        held = b"\r" if piece.endswith(b"\r") else b""
        piece = piece.removesuffix(held)
        if carriage_return_ends and b"\r" in piece:
            yield from piece.splitlines(True)  # bytes split at \n, \r\n and \r only
        else:
            yield piece
    if held:
        yield held


def _line(line: bytes, size: int) -> bytes | None:
    """The line without its end, or None if fewer than its `size` bytes were kept."""
    content = line.removesuffix(b"\n").removesuffix(b"\r")
    whole = size <= MAX_LINE_BYTES + _MARK_AND_END
    return content if whole and len(content) <= MAX_LINE_BYTES else None


def _decoded(line: bytes | None, where: str) -> Line | BadRecord:
    if line is None:
        return BadRecord(where, f"the line is longer than {MAX_LINE_BYTES} bytes")
    if line.startswith(_UTF16_MARKS):
        return BadRecord(where, "this is UTF-16; convert it: iconv -f UTF-16 -t UTF-8")
    if line.startswith(_GZIP_MARK):
        return BadRecord(where, "this is compressed; unpack it, or let its name end in .gz")
    try:
        text = line.decode("utf-8")
    except UnicodeDecodeError as error:
        byte = f"byte 0x{line[error.start]:02x} at column {error.start + 1}"
        convert = "convert the file: iconv -f ENCODING -t UTF-8"
        return BadRecord(where, f"not UTF-8: {byte} ({error.reason}); {convert}")
    if "\0" in text:
        return BadRecord(where, f"holds a NUL byte at column {text.index(chr(0)) + 1}, so no text")
    return Line(text, where)
