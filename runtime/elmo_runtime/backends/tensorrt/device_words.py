"""Token vectors on the device: a table that word_index indexes.

Most words of a batch occurred in an earlier one, so most of the table is up to date and only the
other words cross the PCIe bus. A table belongs to one stream, which writes and reads it in order.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from elmo_runtime.backends.tensorrt.cuda import Device, DeviceBuffer, PinnedBuffer
from elmo_runtime.inference.word_cache import NO_ID

FloatArray = NDArray[np.float32]
Ids = NDArray[np.int64]
Rows = NDArray[np.int32]


class DeviceWords:
    """`kept` rows that outlive a call, followed by `passing` rows that do not.

    An id belongs to one vector forever. Its row is the id modulo `kept`, so that words that first
    occur together have consecutive rows and need one copy.
    """

    def __init__(self, device: Device, *, width: int, kept: int, passing: int) -> None:
        self._device = device
        self._row_bytes = 4 * width
        self._kept = kept
        self.n_rows = kept + passing
        self._resident = np.full(kept, NO_ID, np.int64)  # the id of the vector in a row
        self._table = DeviceBuffer(device)
        self._staging = PinnedBuffer(device)

    @property
    def pointer(self) -> int:
        """The table (n_rows, P) on the device; it exists after the first `place`."""
        return self._table.pointer

    def place(self, vectors: FloatArray, ids: Ids, stream: object) -> Rows:
        """Queue the copies of the vectors (words, P) to the table; returns their rows.

        The staging memory is in use until the stream is synchronized.
        """
        if self._table.reserve(self.n_rows * self._row_bytes):
            # Padding points to row 0, and uninitialized memory may contain NaN.
            self._device.fill_zero(self._table.pointer, self._table.size, stream)
        rows, keeps = self._rows_of(ids)
        missing = np.flatnonzero(~keeps | (self._resident[rows % self._kept] != ids))
        order = missing[np.argsort(rows[missing], kind="stable")]
        self._send(vectors[order], rows[order], stream)
        self._resident[rows[keeps]] = ids[keeps]
        return rows

    def free(self) -> None:
        """Free the memory."""
        self._table.free()
        self._staging.free()

    def _rows_of(self, ids: Ids) -> tuple[Rows, NDArray[np.bool_]]:
        """A row for every word, and whether that row outlives the call."""
        rows = (ids % self._kept).astype(np.int32)
        keeps = np.zeros(len(ids), np.bool_)
        known = np.flatnonzero(ids != NO_ID)
        _, first = np.unique(rows[known], return_index=True)
        keeps[known[first]] = True  # the first of two words with the same row gets it
        passing = np.flatnonzero(~keeps)
        rows[passing] = self._kept + np.arange(len(passing), dtype=np.int32)
        return rows, keeps

    def _send(self, vectors: FloatArray, rows: Rows, stream: object) -> None:
        if not len(rows):
            return
        self._staging.reserve(vectors.nbytes)
        staged = self._staging.bytes[: vectors.nbytes].view(np.float32).reshape(vectors.shape)
        staged[...] = vectors
        for start, end in _runs(rows):
            self._device.copy_in(
                self.pointer + int(rows[start]) * self._row_bytes,
                self._staging.pointer + start * self._row_bytes,
                (end - start) * self._row_bytes,
                stream,
            )


def _runs(rows: Rows) -> Iterator[tuple[int, int]]:
    """Slices of ascending rows without gaps."""
    starts = [0, *(np.flatnonzero(np.diff(rows) != 1) + 1).tolist()]
    yield from zip(starts, [*starts[1:], len(rows)], strict=True)
