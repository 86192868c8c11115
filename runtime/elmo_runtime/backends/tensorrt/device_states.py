"""The initial states of a batch, on the device.

At full size a state has 74 kB per sentence, 19 MB for 256 sentences. Nearly always every sentence
starts from the same state, zero or the warm state, which is then on the device already.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from elmo_runtime.backends.tensorrt.cuda import Device, DeviceBuffer, PinnedBuffer

FloatArray = NDArray[np.float32]
_ZEROS = b"zeros"


class DeviceStates:
    """The memory of one state input and a record of its content. It belongs to one stream."""

    def __init__(self, device: Device) -> None:
        self._device = device
        self._buffer = DeviceBuffer(device)
        self._staging = PinnedBuffer(device)
        self._content: tuple[int, bytes] | None = None  # batch, and the row that fills it

    def place(self, states: FloatArray, batch: int, stream: object) -> int:
        """States (layers, 2, rows, D), rows <= batch -> their address, padded to `batch` rows.

        A single row, or a view that repeats one, is copied only when it changes.
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
        """Free the memory."""
        self._buffer.free()
        self._staging.free()
        self._content = None

    def _fill(self, row: FloatArray, shape: tuple[int, ...], stream: object) -> None:
        if not row.any():
            if self._content != (0, _ZEROS):  # zeros fill the entire buffer, so any batch fits
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
