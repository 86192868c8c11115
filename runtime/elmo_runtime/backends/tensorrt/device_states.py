"""The states that a batch starts from, on the device.

At full size a state is 74 kB a sentence, 19 MB for 256 of them. Nearly always every sentence
starts from the same one, zero or the warm state, which then lies there already.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from elmo_runtime.backends.tensorrt.cuda import Device, DeviceBuffer, PinnedBuffer

FloatArray = NDArray[np.float32]
_ZEROS = b"zeros"


class DeviceStates:
    """The memory of one state input, and what is in it. It belongs to one stream."""

    def __init__(self, device: Device) -> None:
        self._device = device
        self._buffer = DeviceBuffer(device)
        self._staging = PinnedBuffer(device)
        self._content: tuple[int, bytes] | None = None  # batch, the row that fills it

    def place(self, states: FloatArray, batch: int, stream: object) -> int:
        """States (layers, 2, rows, D), rows <= batch -> where they lie, padded to `batch` rows.

        States that are one row, or a view that repeats one, are sent only when they change.
        """
        layers, directions, rows, width = states.shape
        shape = (layers, directions, batch, width)
        if self._buffer.reserve(4 * math.prod(shape)):
            self._content = None
        if rows > 1 and states.strides[2] != 0:
            self._content = None
            padding = ((0, 0), (0, 0), (0, batch - rows), (0, 0))
            self._send(np.pad(states, padding), stream)
        else:
            self._fill(states[:, :, :1], shape, stream)
        return self._buffer.pointer

    def free(self) -> None:
        """Give the memory back."""
        self._buffer.free()
        self._staging.free()
        self._content = None

    def _fill(self, row: FloatArray, shape: tuple[int, ...], stream: object) -> None:
        if not row.any():
            if self._content != (0, _ZEROS):  # zeros fill the whole buffer, so any batch fits
                self._device.fill_zero(self._buffer.pointer, self._buffer.size, stream)
            self._content = (0, _ZEROS)
            return
        content = (shape[2], row.tobytes())
        if self._content != content:
            self._send(np.broadcast_to(row, shape), stream)
        self._content = content

    def _send(self, states: FloatArray, stream: object) -> None:
        self._staging.reserve(states.nbytes)
        staged = self._staging.bytes[: states.nbytes].view(np.float32).reshape(states.shape)
        staged[...] = states
        self._device.copy_in(self._buffer.pointer, self._staging.pointer, states.nbytes, stream)
