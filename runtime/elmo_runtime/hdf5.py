"""An HDF5 file that can be closed even when the disk is full.

HDF5 keeps parts of a file in memory until it is closed. On a full disk that fails, the file stays
open, and the library tries again while the interpreter ends: a crash after the error message. So
HDF5 writes to a stream that keeps in memory the bytes that the disk refuses. No call fails inside
the library, and the error is raised here.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any

from elmo_runtime.errors import BackendUnavailableError


class Hdf5Output:
    """Writes datasets to a new file; every method raises OSError when the disk is full."""

    def __init__(self, path: Path) -> None:
        h5py = import_h5py()
        self._stream = _PatientStream(path.open("w+b", buffering=0))
        self._file = h5py.File(self._stream, "w")

    def get(self, name: str) -> Any:
        """The h5py object of this name, or None."""
        return self._file.get(name)

    def add(self, name: str, **content: Any) -> None:
        """Write a dataset; `content` are the arguments of h5py's create_dataset."""
        self._file.create_dataset(name, **content)
        self._stream.raise_error()

    def close(self) -> None:
        """Complete the file and close it; may be called twice."""
        self._file.close()
        self._stream.close()
        self._stream.raise_error()

    def __enter__(self) -> Hdf5Output:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: object, trace: TracebackType | None
    ) -> None:
        self.close()


def import_h5py() -> Any:
    """The module. Raises BackendUnavailableError with the extra to install."""
    try:
        import h5py
    except ModuleNotFoundError as error:
        raise BackendUnavailableError(
            "HDF5 files need the package h5py", hint='pip install "elmo-deploy[hdf5]"'
        ) from error
    return h5py


class _PatientStream(io.RawIOBase):
    """A file for h5py that accepts every byte; after the first error they go to memory.

    Only the rest of one dataset and the tables of HDF5 follow an error, because `add` raises it.
    """

    def __init__(self, disk: io.FileIO) -> None:
        self._disk = disk
        self._position = self._length = 0
        self._refused: list[tuple[int, bytes]] = []  # offset and bytes, in the order of the writes
        self._error: OSError | None = None

    def raise_error(self) -> None:
        """Raise the first error of the disk, if there was one."""
        if self._error is not None:
            raise self._error

    def _attempt(self, action: Callable[[], object]) -> bool:
        if self._error is None:
            try:
                action()
            except OSError as error:
                self._error = error
        return self._error is None

    def write(self, data: Any) -> int:
        """Write all of `data`, to the disk or, after an error, to memory."""
        content = memoryview(data).cast("B")
        if not self._attempt(lambda: self._write_to_disk(content)):
            self._refused.append((self._position, bytes(content)))
        self._position += len(content)
        self._length = max(self._length, self._position)
        return len(content)

    def _write_to_disk(self, content: memoryview) -> None:
        self._disk.seek(self._position)
        while content:
            content = content[self._disk.write(content) :]

    def readinto(self, buffer: Any) -> int:
        """Read the written bytes from disk or memory; gaps are zeros."""
        view = memoryview(buffer).cast("B")
        start, size = self._position, max(0, min(len(view), self._length - self._position))
        view[:size] = bytes(size)
        self._disk.seek(start)
        self._disk.readinto(view[:size])
        for place, content in self._refused:
            low, high = max(place, start), min(place + len(content), start + size)
            if low < high:
                view[low - start : high - start] = content[low - place : high - place]
        self._position += size
        return size

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Move to a position without writing."""
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._length}
        self._position = base[whence] + offset
        return self._position

    def tell(self) -> int:
        """The position."""
        return self._position

    def truncate(self, size: int | None = None) -> int:
        """Set the length."""
        self._length = self._position if size is None else size
        self._attempt(lambda: self._disk.truncate(self._length))
        return self._length

    def close(self) -> None:
        """Close the file on disk."""
        if not self.closed:
            super().close()
            try:
                self._disk.close()
            except OSError as error:
                self._error = self._error or error
