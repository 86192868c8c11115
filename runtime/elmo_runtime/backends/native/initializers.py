"""The weights of an ONNX file as arrays in a memory map, read without the onnx package.

It knows the wire format of protobuf and, of onnx.proto, some fields with their numbers:
ModelProto.graph (7), GraphProto.initializer (5), and TensorProto's dims (1), data_type (2),
name (8) and raw_data (9). Everything else is skipped.
"""

from __future__ import annotations

import contextlib
import math
import mmap
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from elmo_runtime.errors import BundleVersionError

FLOAT = 1  # TensorProto.DataType
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5  # wire types
_LONGEST_VARINT = 10  # bytes

Span = tuple[int, int]  # first byte, and one past the last


class _MalformedError(ValueError):
    """The bytes are not what a protobuf message looks like."""


@contextlib.contextmanager
def open_initializers(path: Path) -> Iterator[Mapping[str, NDArray[np.float32]]]:
    """Yield the float32 initializers by name, as views of the file.

    The views must not be used after the context, which unmaps the file. Raises BundleVersionError
    for a file that is not an ONNX model, or whose tensors do not fill their shapes.
    """
    with path.open("rb") as file:
        try:
            mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        except ValueError as error:  # an empty file
            raise _unreadable(path, error) from error
    try:
        yield _read(path, mapped)
    finally:
        with contextlib.suppress(BufferError):  # a caller still holds a view: it is freed later
            mapped.close()


def _read(path: Path, mapped: mmap.mmap) -> dict[str, NDArray[np.float32]]:
    content, data = np.frombuffer(mapped, np.uint8), memoryview(mapped)
    try:
        tensors = {}
        for graph in _messages(data, (0, len(data)), field=7):
            for tensor in _messages(data, graph, field=5):
                named = _tensor(data, content, tensor)
                if named:
                    tensors[named[0]] = named[1]
        return tensors
    except (_MalformedError, UnicodeDecodeError) as error:
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: Exception) -> BundleVersionError:
    return BundleVersionError(
        f"{path} holds no readable weights: {error}", hint="export the checkpoint again"
    )


def _tensor(
    data: memoryview, content: NDArray[np.uint8], span: Span
) -> tuple[str, NDArray[np.float32]] | None:
    """Name and array of a TensorProto; None if it is of another type than float32."""
    dims: list[int] = []
    data_type, name, raw = 0, "", None
    for field, wire, value in _fields(data, span):
        if field == 1 and wire == _VARINT:
            dims.append(value[0])
        elif field == 1 and wire == _BYTES:  # packed
            dims += _packed(data, value)
        elif field == 2 and wire == _VARINT:
            data_type = value[0]
        elif field == 8 and wire == _BYTES:
            name = bytes(data[slice(*value)]).decode("utf-8")
        elif field == 9 and wire == _BYTES:
            raw = value
    if data_type != FLOAT or raw is None:
        return None
    count = math.prod(dims)
    if count * 4 != raw[1] - raw[0]:
        raise _MalformedError(f"{name} has shape {dims} and {raw[1] - raw[0]} bytes")
    return name, content[slice(*raw)].view("<f4").reshape(dims)


def _messages(data: memoryview, span: Span, *, field: int) -> Iterator[Span]:
    """Yield where the submessages of one field lie."""
    for number, wire, value in _fields(data, span):
        if number == field and wire == _BYTES:
            yield value


def _fields(data: memoryview, span: Span) -> Iterator[tuple[int, int, Span]]:
    """Yield (field, wire type, value); the value of a varint is (number, 0), else a span."""
    position, end = span
    while position < end:
        key, position = _varint(data, position, end)
        wire = key & 7
        if wire == _VARINT:
            number, position = _varint(data, position, end)
            yield key >> 3, wire, (number, 0)
            continue
        if wire == _BYTES:
            length, position = _varint(data, position, end)
        elif wire in (_FIXED64, _FIXED32):
            length = 8 if wire == _FIXED64 else 4
        else:
            raise _MalformedError(f"wire type {wire} at byte {position}")
        if length > end - position:
            raise _MalformedError(f"{length} bytes at byte {position} of {end}")
        yield key >> 3, wire, (position, position + length)
        position += length


def _packed(data: memoryview, span: Span) -> list[int]:
    numbers = []
    position, end = span
    while position < end:
        number, position = _varint(data, position, end)
        numbers.append(number)
    return numbers


def _varint(data: memoryview, position: int, end: int) -> tuple[int, int]:
    """The number at a position, and the position after it."""
    number = 0
    for index in range(_LONGEST_VARINT):
        if position >= end:
            raise _MalformedError(f"a number is cut off at byte {position}")
        byte = data[position]
        position += 1
        number |= (byte & 0x7F) << (7 * index)
        if byte < 0x80:
            return number, position
    raise _MalformedError(f"a number of more than {_LONGEST_VARINT} bytes before byte {position}")
