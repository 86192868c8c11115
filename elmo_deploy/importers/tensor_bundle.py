"""TensorFlow's checkpoint format V2, `NAME.index` + `NAME.data-*-of-*` -> arrays, by numpy.

The index is a LevelDB table: keys that share prefixes, in blocks with a masked CRC-32C each. Its
values are protocol buffers: the header under the key "", an entry per variable under its name.
Sources: tensorflow/core/protobuf/tensor_bundle.proto and leveldb/doc/table_format.md.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from elmo_runtime.errors import WeightsError

FOOTER = 48
MAGIC = 0xDB4775248B80FB57
TRAILER = 5  # type of compression, CRC
MAX_INDEX_BYTES = 4 << 20  # Published ones have less than 100 KB.
MAX_KEY_BYTES = 1024  # A key may repeat the key before it at the cost of three bytes.
# tensorflow/core/framework/types.proto; other types cannot be weights and are not read.
DTYPES: dict[int, np.dtype[Any]] = {1: np.dtype("<f4"), 2: np.dtype("<f8"), 19: np.dtype("<f2")}
SNAPPY = 1


@dataclass(frozen=True)
class Variable:
    """Where the value of a variable is stored; dtype is the number in TensorFlow's types.proto."""

    name: str
    dtype: int
    shape: tuple[int, ...]
    shard: int
    offset: int
    size: int
    crc: int
    sliced: bool


class TensorBundle:
    """The variables of a checkpoint by name; only requested values are read.

    `shard` gives the data file of a number and a count, or None if it does not exist. Every error
    is a WeightsError of one line.
    """

    def __init__(self, index: Path, shard: Callable[[int, int], Path | None]) -> None:
        try:
            table = dict(_table(_index_bytes(index)))
            self.n_shards = _header(table.pop(b""))
            self.variables: Mapping[str, Variable] = {
                name.decode(): _variable(name.decode(), value) for name, value in table.items()
            }
        except WeightsError as error:
            raise WeightsError(f"{index}: {error.what}", hint=error.hint) from error
        except (KeyError, IndexError, ValueError, struct.error) as error:
            raise WeightsError(
                f"{index} cannot be read as the index of a TensorFlow checkpoint: {error!r}",
                hint="copy the .index and .data files again and compare sizes",
            ) from error
        self.shard = shard

    def read(self, name: str) -> NDArray[Any]:
        """The value of a variable. The CRC is checked if google-crc32c is installed."""
        variable = self.variables[name]
        if variable.sliced:
            raise WeightsError(
                f"{name} is stored in slices, by a partitioned variable",
                hint="restore the checkpoint in TensorFlow and save it without a partitioner",
            )
        if variable.dtype not in DTYPES:
            raise WeightsError(f"{name} has TensorFlow's type {variable.dtype}, must be float")
        dtype = DTYPES[variable.dtype]
        if variable.size != math.prod(variable.shape) * dtype.itemsize:
            raise WeightsError(f"{name} has {variable.size} bytes for the shape {variable.shape}")
        content = self._content(variable)
        _check_tensor_crc(variable, content)
        return np.ndarray(variable.shape, dtype, content)

    def _content(self, variable: Variable) -> bytes:
        path = self.shard(variable.shard, self.n_shards)
        if path is None or not path.is_file():
            raise WeightsError(
                f"data file {variable.shard} of {self.n_shards} is missing",
                hint="copy every .data file of the checkpoint next to its .index",
            )
        with path.open("rb") as file:
            size = file.seek(0, 2)
            if variable.offset + variable.size > size:
                raise WeightsError(
                    f"{path} has {size} bytes, {variable.name} ends at"
                    f" {variable.offset + variable.size}",
                    hint="copy the file again and compare sizes",
                )
            file.seek(variable.offset)
            return file.read(variable.size)


def _index_bytes(path: Path) -> bytes:
    if not path.is_file():
        raise WeightsError("is not a file")
    if not FOOTER <= path.stat().st_size <= MAX_INDEX_BYTES:
        raise WeightsError(f"has {path.stat().st_size} bytes, must be {FOOTER}..{MAX_INDEX_BYTES}")
    return path.read_bytes()


def _table(content: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Every key and value of a LevelDB table."""
    footer = content[-FOOTER:]
    if struct.unpack("<Q", footer[-8:])[0] != MAGIC:
        raise WeightsError("is not the index of a TensorFlow checkpoint: the magic number differs")
    _, at = _handle(footer, 0)  # of the meta index
    index, _ = _handle(footer, at)
    end = 0
    for _, value in _entries(_block(content, *index)):
        (offset, size), _ = _handle(value, 0)
        if offset < end:
            raise WeightsError(f"has blocks that overlap at {offset}")
        end = offset + size
        yield from _entries(_block(content, offset, size))


def _handle(content: bytes, at: int) -> tuple[tuple[int, int], int]:
    """The offset and size of a block, and where the next value starts."""
    offset, at = _varint(content, at)
    size, at = _varint(content, at)
    return (offset, size), at


def _block(content: bytes, offset: int, size: int) -> bytes:
    """The entries of a block, without its trailer and restart points."""
    end = offset + size
    if end + TRAILER > len(content) or size < 4:
        raise WeightsError(f"has a block at {offset} of {size} bytes in {len(content)} bytes")
    kind, crc = content[end], struct.unpack_from("<I", content, end + 1)[0]
    if crc != _masked(crc32c(content[offset : end + 1])):
        raise WeightsError(f"is corrupt: the CRC of the block at {offset} differs")
    if kind:
        name = "snappy, as TensorFlow 1.1 and earlier wrote it" if kind == SNAPPY else str(kind)
        raise WeightsError(
            f"has blocks with compression {name}",
            hint="restore the checkpoint in a later TensorFlow and save it again",
        )
    restarts = struct.unpack_from("<I", content, end - 4)[0]
    if 4 * restarts + 4 > size:
        raise WeightsError(f"has {restarts} restart points in a block of {size} bytes")
    return content[offset : end - 4 - 4 * restarts]


def _entries(block: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Each key starts with a number of bytes of the key before it."""
    at, key = 0, b""
    while at < len(block):
        shared, at = _varint(block, at)
        own, at = _varint(block, at)
        size, at = _varint(block, at)
        if shared > len(key) or at + own + size > len(block) or shared + own > MAX_KEY_BYTES:
            raise WeightsError(f"has an entry beyond its block of {len(block)} bytes")
        key = key[:shared] + block[at : at + own]
        yield key, block[at + own : at + own + size]
        at += own + size


def _varint(content: bytes, at: int) -> tuple[int, int]:
    """A number of 7 bits per byte, the lowest first, and where the next value starts."""
    value = 0
    for shift in range(0, 70, 7):
        byte = content[at + shift // 7]
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at + shift // 7 + 1
    raise WeightsError("has a number of more than 10 bytes")


def _fields(message: bytes) -> Iterator[tuple[int, int | bytes]]:
    """The numbers and values of the fields of a protocol buffer."""
    at = 0
    while at < len(message):
        tag, at = _varint(message, at)
        kind = tag & 7
        if kind == 0:
            value, at = _varint(message, at)
            yield tag >> 3, value
            continue
        size = {1: 8, 5: 4}.get(kind)
        if kind == 2:
            size, at = _varint(message, at)
        if size is None or at + size > len(message):
            raise WeightsError(f"has a field of kind {kind} beyond its message")
        yield tag >> 3, message[at : at + size]
        at += size


def _header(message: bytes) -> int:
    """The number of data files of a BundleHeaderProto."""
    fields = dict(_fields(message))
    if fields.get(2, 0) != 0:
        raise WeightsError("was written on a big-endian machine, which is not supported")
    return _number(fields.get(1, 0))


def _variable(name: str, message: bytes) -> Variable:
    """The fields of a BundleEntryProto."""
    fields = dict(_fields(message))
    return Variable(
        name=name,
        dtype=_number(fields.get(1, 0)),
        shape=tuple(_sizes(_bytes(fields.get(2, b"")))),
        shard=_number(fields.get(3, 0)),
        offset=_number(fields.get(4, 0)),
        size=_number(fields.get(5, 0)),
        crc=struct.unpack("<I", _bytes(fields.get(6, bytes(4))))[0],
        sliced=7 in fields,
    )


def _sizes(message: bytes) -> Iterator[int]:
    """The sizes of a TensorShapeProto."""
    for number, dimension in _fields(message):
        if number == 2:
            size = _number(dict(_fields(_bytes(dimension))).get(1, 0))
            if size >= 1 << 48:  # -1, an unknown size, is 2^64 - 1.
                raise WeightsError(f"has a variable with a dimension of {size}")
            yield size


def _number(value: int | bytes) -> int:
    if isinstance(value, bytes):
        raise WeightsError("has bytes in the place of a number")
    return value


def _bytes(value: int | bytes) -> bytes:
    if isinstance(value, int):
        raise WeightsError("has a number in the place of bytes")
    return value


def _check_tensor_crc(variable: Variable, content: bytes) -> None:
    try:
        import google_crc32c
    except ImportError:  # Python would need 0.2 s per MB.
        return
    if variable.crc != _masked(google_crc32c.value(content)):
        raise WeightsError(
            f"{variable.name} is corrupt: its CRC differs", hint="copy the .data files again"
        )


def _masked(crc: int) -> int:
    """LevelDB stores a CRC rotated and shifted, because its files contain CRCs themselves."""
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


def crc32c(content: bytes) -> int:
    """The CRC-32C (Castagnoli) of an index block, which has a few thousand bytes."""
    crc = 0xFFFFFFFF
    for byte in content:
        crc = _CRC_TABLE[(crc ^ byte) & 0xFF] ^ crc >> 8
    return crc ^ 0xFFFFFFFF


def _crc_of_byte(value: int) -> int:
    for _ in range(8):
        value = value >> 1 ^ (0x82F63B78 if value & 1 else 0)
    return value


_CRC_TABLE = [_crc_of_byte(byte) for byte in range(256)]
