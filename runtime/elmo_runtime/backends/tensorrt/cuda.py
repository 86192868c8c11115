"""The CUDA runtime through cuda-bindings: memory, copies, streams, graphs and errors.

Pointers are plain integers. The module is independent of engines and ELMo.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from elmo_runtime.errors import BackendError, BackendUnavailableError, DeviceMemoryError

INSTALL = 'pip install "cuda-bindings>=12.9"'
_NO_DEVICE = ("cudaErrorInsufficientDriver", "cudaErrorNoDevice")


class Device:
    """One GPU. Every method may raise BackendError, or DeviceMemoryError without enough memory."""

    def __init__(self, cudart: Any, index: int = 0) -> None:
        self._cudart = cudart
        self.index = index

    @classmethod
    def open(cls) -> Device:
        """The first GPU that CUDA shows; CUDA_VISIBLE_DEVICES chooses among several.

        Raises BackendUnavailableError without cuda-bindings, a driver or a GPU.
        """
        try:
            cudart = importlib.import_module("cuda.bindings.runtime")
        except Exception as error:  # a damaged installation raises errors of any type
            raise BackendUnavailableError(
                f"cuda.bindings cannot be imported: {error}", hint=INSTALL
            ) from error
        if not hasattr(cudart, "cudaGetDeviceCount"):
            raise BackendUnavailableError("cuda.bindings has no runtime module", hint=INSTALL)
        device = cls(cudart)
        if device._call("cudaGetDeviceCount")[0] < 1:
            raise BackendUnavailableError("CUDA shows no GPU")
        return device

    @property
    def compute_capability(self) -> str:
        """The generation of the GPU, e.g. "9.0"."""
        attribute = self._cudart.cudaDeviceAttr
        major, minor = (
            self._call("cudaDeviceGetAttribute", which, self.index)[0]
            for which in (
                attribute.cudaDevAttrComputeCapabilityMajor,
                attribute.cudaDevAttrComputeCapabilityMinor,
            )
        )
        return f"{major}.{minor}"

    @property
    def name(self) -> str:
        """The GPU's product name."""
        properties = self._call("cudaGetDeviceProperties", self.index)[0]
        return str(properties.name.decode())

    @contextlib.contextmanager
    def current(self) -> Iterator[None]:
        """Make this the device of the thread, and restore the previous one afterwards."""
        before = self._call("cudaGetDevice")[0]
        self._call("cudaSetDevice", self.index)
        try:
            yield
        finally:
            self._call("cudaSetDevice", before)

    def free_and_total(self) -> tuple[int, int]:
        """The free bytes and the total bytes of device memory."""
        free, total = self._call("cudaMemGetInfo")
        return int(free), int(total)

    def allocate(self, size: int) -> int:
        """Allocate a block of device memory."""
        return int(self._call("cudaMalloc", size)[0])

    def release(self, pointer: int) -> None:
        """Free a block of device memory."""
        self._call("cudaFree", pointer)

    def allocate_pinned(self, size: int) -> int:
        """Allocate a block of pinned host memory, which copies need not stage."""
        return int(self._call("cudaMallocHost", size)[0])

    def release_pinned(self, pointer: int) -> None:
        """Free a block of pinned memory."""
        self._call("cudaFreeHost", pointer)

    def create_stream(self) -> Any:
        """Create a stream that does not wait for the default stream."""
        return self._call("cudaStreamCreateWithFlags", self._cudart.cudaStreamNonBlocking)[0]

    def destroy_stream(self, stream: Any) -> None:
        """Destroy a stream."""
        self._call("cudaStreamDestroy", stream)

    def synchronize(self, stream: Any) -> None:
        """Wait until the work of the stream is done; raises the errors of that work."""
        self._call("cudaStreamSynchronize", stream)

    def copy_in(self, target: int, source: int, size: int, stream: Any) -> None:
        """Queue a copy of pinned host memory to the device."""
        kind = self._cudart.cudaMemcpyKind.cudaMemcpyHostToDevice
        self._call("cudaMemcpyAsync", target, source, size, kind, stream)

    def copy_out_rows(
        self, target: int, source: int, *, width: int, pitch: int, rows: int, stream: Any
    ) -> None:
        """Queue a copy to pinned host memory: the first `width` bytes of each row of `pitch`."""
        kind = self._cudart.cudaMemcpyKind.cudaMemcpyDeviceToHost
        self._call("cudaMemcpy2DAsync", target, width, source, pitch, width, rows, kind, stream)

    def fill_zero(self, target: int, size: int, stream: Any) -> None:
        """Queue zeros into device memory."""
        self._call("cudaMemsetAsync", target, 0, size, stream)

    def begin_capture(self, stream: Any) -> None:
        """Record the work of this stream instead of running it; other threads may continue."""
        mode = self._cudart.cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal
        self._call("cudaStreamBeginCapture", stream, mode)

    def end_capture(self, stream: Any) -> Any | None:
        """The recorded work, ready to launch; None if the recording is invalid."""
        try:
            graph = self._call("cudaStreamEndCapture", stream)[0]
        except BackendError:
            self._cudart.cudaGetLastError()  # otherwise the next call would report the error
            return None
        try:
            return self._call("cudaGraphInstantiate", graph, 0)[0]
        except BackendError:
            self._cudart.cudaGetLastError()
            return None
        finally:
            self._call("cudaGraphDestroy", graph)

    def launch(self, graph: Any, stream: Any) -> None:
        """Queue recorded work."""
        self._call("cudaGraphLaunch", graph, stream)

    def destroy_graph(self, graph: Any) -> None:
        """Destroy recorded work."""
        self._call("cudaGraphExecDestroy", graph)

    def _call(self, function: str, *arguments: Any) -> tuple[Any, ...]:
        """Call the runtime: its first result is an error code, the others are returned."""
        error, *answers = getattr(self._cudart, function)(*arguments)
        if error == self._cudart.cudaError_t.cudaSuccess:
            return tuple(answers)
        name = getattr(error, "name", str(error))
        if name == "cudaErrorMemoryAllocation":
            raise DeviceMemoryError(f"{function}: the GPU has too little free memory")
        if name in _NO_DEVICE:
            raise BackendUnavailableError(
                f"{function}: {name}",
                hint="install an NVIDIA driver that is recent enough for this CUDA runtime",
            )
        raise BackendError(f"{function} failed: {name}")


class DeviceBuffer:
    """A block of device memory that grows, which changes `pointer` and loses the content."""

    def __init__(self, device: Device) -> None:
        self._device = device
        self.pointer = 0
        self.size = 0

    def reserve(self, size: int) -> bool:
        """Grow to at least `size` bytes; returns whether the block moved."""
        if size <= self.size:
            return False
        self.free()  # first, so that the old and the new block need not fit at the same time
        self.pointer = self._device.allocate(size)
        self.size = size
        return True

    def free(self) -> None:
        """Free the block."""
        if self.pointer:
            pointer, self.pointer, self.size = self.pointer, 0, 0
            self._device.release(pointer)


class PinnedBuffer:
    """A block of pinned host memory that grows, as bytes; growing loses the content."""

    def __init__(self, device: Device) -> None:
        self._device = device
        self.pointer = 0
        self.bytes: NDArray[np.uint8] = np.empty(0, np.uint8)

    def reserve(self, size: int) -> None:
        """Grow to at least `size` bytes."""
        if size <= self.bytes.size:
            return
        self.free()
        self.pointer = self._device.allocate_pinned(size)
        block = (ctypes.c_uint8 * size).from_address(self.pointer)
        self.bytes = np.frombuffer(memoryview(block), np.uint8)

    def free(self) -> None:
        """Free the block; arrays that view it must not be used any more."""
        if self.pointer:
            pointer, self.pointer = self.pointer, 0
            self.bytes = np.empty(0, np.uint8)
            self._device.release_pinned(pointer)
