"""The weights of an ONNX file as views of its bytes, read without the onnx package.

It knows the wire format of protobuf and the numbers of some fields of onnx.proto:
ModelProto.graph (7), GraphProto.initializer (5), and TensorProto's dims (1), data_type (2),
name (8) and raw_data (9). All other fields are skipped.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from elmo_runtime.errors import BundleVersionError

FLOAT = 1  # TensorProto.DataType
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5  # wire types
_LONGEST_VARINT = 10  # bytes

Span = tuple[int, int]  # first byte, and one past the last


class _MalformedError(ValueError):
    """The bytes are not a protobuf message."""


def read_initializers(content: bytes, *, name: str) -> dict[str, NDArray[np.float32]]:
    """The float32 initializers of an ONNX file by name, as views of its content.

    name: the name of the file, for messages. Raises BundleVersionError if the content is not an
    ONNX model or its tensors do not fill their shapes.
    """
    data, numbers = memoryview(content), np.frombuffer(content, np.uint8)
    try:
        tensors = {}
        for graph in _messages(data, (0, len(data)), field=7):
            for tensor in _messages(data, graph, field=5):
                named = _tensor(data, numbers, tensor)
                if named:
                    tensors[named[0]] = named[1]
        return tensors
    except (_MalformedError, UnicodeDecodeError) as error:
        raise _unreadable(name, error) from error


def _unreadable(name: str, error: Exception) -> BundleVersionError:
    return BundleVersionError(
        f"{name} holds no readable weights: {error}", hint="export the checkpoint again"
    )


def _tensor(
    data: memoryview, content: NDArray[np.uint8], span: Span
) -> tuple[str, NDArray[np.float32]] | None:
    """The name and array of a TensorProto; None if it is not float32."""
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
    """Yield the spans of the submessages of one field."""
    for number, wire, value in _fields(data, span):
        if number == field and wire == _BYTES:
            yield value


def _fields(data: memoryview, span: Span) -> Iterator[tuple[int, int, Span]]:
    """Yield (field, wire type, value); the value is (number, 0) for a varint, otherwise a span."""
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
