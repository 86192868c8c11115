"""Writes TensorFlow's checkpoint format V2, independently of the reader."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from elmo_deploy.importers.tensor_bundle import MAGIC, crc32c

TYPES = {"f4": 1, "f8": 2, "i4": 3, "f2": 19}


def varint(value: int) -> bytes:
    found = bytearray()
    while value >= 0x80:
        found.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*found, value])


def field(number: int, value: int | bytes) -> bytes:
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    return varint(number << 3 | 2) + varint(len(value)) + value


def masked(content: bytes) -> bytes:
    crc = crc32c(content)
    return struct.pack("<I", ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF)


def block(entries: Mapping[bytes, bytes]) -> bytes:
    content = b"".join(
        varint(0) + varint(len(key)) + varint(len(value)) + key + value
        for key, value in sorted(entries.items())
    )
    return content + struct.pack("<II", 0, 1)


def table(entries: Mapping[bytes, bytes], kind: int = 0) -> bytes:
    """A LevelDB table of one block."""
    found, handles = b"", []
    values = block(entries)
    for content in (values, block({b"~": varint(0) + varint(len(values))}), block({})):
        handles.append(varint(len(found)) + varint(len(content)))
        found += content + bytes([kind]) + masked(content + bytes([kind]))
    footer = handles[2] + handles[1]
    return found + footer.ljust(40, b"\0") + struct.pack("<Q", MAGIC)


def write_bundle(
    prefix: Path,
    variables: Mapping[str, np.ndarray],
    *,
    header: bytes = field(1, 1),
    extra: bytes = b"",
    kind: int = 0,
) -> None:
    """Write one data file and its index; `extra` is appended to each entry."""
    content, entries = b"", {b"": header}
    for name, value in variables.items():
        array = value.astype(value.dtype.newbyteorder("<"), copy=False)
        raw = np.ascontiguousarray(array).tobytes()
        shape = b"".join(field(2, field(1, size)) for size in array.shape)
        crc = varint(6 << 3 | 5) + masked(raw)
        entries[name.encode()] = (
            field(1, TYPES[array.dtype.str[1:]])
            + field(2, shape)
            + field(4, len(content))
            + field(5, len(raw))
            + crc
            + extra
        )
        content += raw
    prefix.with_name(f"{prefix.name}.index").write_bytes(table(entries, kind))
    prefix.with_name(f"{prefix.name}.data-00000-of-00001").write_bytes(content)
