"""The parts of a GPU, its driver and TensorRT that the backend uses, in host memory.

Device memory is separate and starts as NaN. A stream does nothing before it is synchronized.
Freed memory cannot be accessed. Recorded work keeps the addresses of its recording. An engine
computes its ONNX graph.
"""

from __future__ import annotations

import enum
import functools
import json
import types
from collections.abc import Callable
from importlib.machinery import ModuleSpec
from typing import Any

import numpy as np
import onnx
import onnxruntime

MAGIC = b"plan of the fake GPU "


class cudaError_t(enum.IntEnum):
    cudaSuccess = 0
    cudaErrorInvalidValue = 1
    cudaErrorMemoryAllocation = 2
    cudaErrorInsufficientDriver = 35
    cudaErrorNoDevice = 100
    cudaErrorLaunchFailure = 719
    cudaErrorStreamCaptureInvalidated = 901


class cudaMemcpyKind(enum.IntEnum):
    cudaMemcpyHostToDevice = 1
    cudaMemcpyDeviceToHost = 2


class cudaDeviceAttr(enum.IntEnum):
    cudaDevAttrComputeCapabilityMajor = 75
    cudaDevAttrComputeCapabilityMinor = 76


class cudaStreamCaptureMode(enum.IntEnum):
    cudaStreamCaptureModeThreadLocal = 1


OK = cudaError_t.cudaSuccess
Work = Callable[[], None]


class Stream:
    """A queue. During a capture, `recording` takes the work."""

    def __init__(self, handle: int) -> None:
        self.handle = handle
        self.queue: list[Work] = []
        self.recording: list[Work] | None = None
        self.invalid = False

    def __int__(self) -> int:
        return self.handle

    def add(self, work: Work) -> None:
        (self.queue if self.recording is None else self.recording).append(work)


class FakeCudart(types.ModuleType):
    """`cuda.bindings.runtime`: answers are tuples whose first element is the error."""

    cudaError_t = cudaError_t
    cudaMemcpyKind = cudaMemcpyKind
    cudaDeviceAttr = cudaDeviceAttr
    cudaStreamCaptureMode = cudaStreamCaptureMode
    cudaStreamNonBlocking = 1

    def __init__(self, *, memory: int = 1 << 30, compute_capability: str = "8.6") -> None:
        super().__init__("cuda.bindings.runtime")
        self.__spec__ = ModuleSpec(self.__name__, None)
        self.memory = memory
        self.capability = compute_capability
        self.device_error: cudaError_t = OK
        self.blocks: dict[int, np.ndarray[Any, Any]] = {}
        self.pinned: dict[int, np.ndarray[Any, Any]] = {}
        self.streams: dict[int, Stream] = {}
        self.graphs = 0  # recordings that were not destroyed
        self.launches = 0
        self.bytes_in = self.bytes_out = 0
        self.current = 0

    # Devices.

    def cudaGetDeviceCount(self):
        return (self.device_error, 0) if self.device_error else (OK, 1)

    def cudaGetDevice(self):
        return OK, self.current

    def cudaSetDevice(self, device):
        self.current = device
        return (OK,)

    def cudaDeviceGetAttribute(self, attr, device):
        major, minor = self.capability.split(".")
        wants_major = attr == cudaDeviceAttr.cudaDevAttrComputeCapabilityMajor
        return OK, int(major if wants_major else minor)

    def cudaMemGetInfo(self):
        return OK, self.memory - self._used(), self.memory

    def cudaGetDeviceProperties(self, device):
        return OK, types.SimpleNamespace(name=b"Fake GPU")

    def cudaGetLastError(self):
        return (OK,)

    # Memory.

    def cudaMalloc(self, size):
        for stream in self.streams.values():
            stream.invalid |= stream.recording is not None  # not allowed while work is recorded
        if self._used() + size > self.memory:
            return cudaError_t.cudaErrorMemoryAllocation, 0
        return OK, _allocate(self.blocks, size)

    def cudaFree(self, devPtr):
        self.blocks.pop(devPtr)[...] = 0xFF
        return (OK,)

    def cudaMallocHost(self, size):
        return OK, _allocate(self.pinned, size)

    def cudaFreeHost(self, ptr):
        self.pinned.pop(ptr)[...] = 0xFF
        return (OK,)

    def device_bytes(self, address: int, size: int) -> np.ndarray[Any, Any]:
        """A view of live device memory. Any other address is an error of the caller."""
        return _view(self.blocks, address, size)

    def cudaMemcpyAsync(self, dst, src, count, kind, stream):
        assert kind == cudaMemcpyKind.cudaMemcpyHostToDevice

        def copy() -> None:
            self.device_bytes(dst, count)[...] = _view(self.pinned, src, count)
            self.bytes_in += count

        stream.add(copy)
        return (OK,)

    def cudaMemcpy2DAsync(self, dst, dpitch, src, spitch, width, height, kind, stream):
        assert kind == cudaMemcpyKind.cudaMemcpyDeviceToHost and dpitch >= width <= spitch

        def copy() -> None:
            for row in range(height):
                source = self.device_bytes(src + row * spitch, width)
                _view(self.pinned, dst + row * dpitch, width)[...] = source
            self.bytes_out += width * height

        stream.add(copy)
        return (OK,)

    def cudaMemsetAsync(self, devPtr, value, count, stream):
        stream.add(lambda: self.device_bytes(devPtr, count).fill(value))
        return (OK,)

    # Streams and recordings.

    def cudaStreamCreateWithFlags(self, flags):
        assert flags == self.cudaStreamNonBlocking
        stream = Stream(1000 + len(self.streams))
        self.streams[stream.handle] = stream
        return OK, stream

    def cudaStreamDestroy(self, stream):
        del self.streams[stream.handle]
        return (OK,)

    def cudaStreamSynchronize(self, stream):
        assert stream.recording is None
        work, stream.queue = stream.queue, []
        for each in work:
            each()
        return (OK,)

    def cudaStreamBeginCapture(self, stream, mode):
        stream.recording, stream.invalid = [], False
        return (OK,)

    def cudaStreamEndCapture(self, stream):
        recorded, stream.recording = stream.recording, None
        if stream.invalid:
            return cudaError_t.cudaErrorStreamCaptureInvalidated, None
        return OK, recorded

    def cudaGraphInstantiate(self, graph, flags):
        self.graphs += 1
        return OK, list(graph)

    def cudaGraphDestroy(self, graph):
        return (OK,)

    def cudaGraphExecDestroy(self, graphExec):
        self.graphs -= 1
        return (OK,)

    def cudaGraphLaunch(self, graphExec, stream):
        self.launches += 1
        for work in graphExec:
            stream.add(work)
        return (OK,)

    def _used(self) -> int:
        return sum(block.size for block in self.blocks.values())


class ILogger:
    """The base class of the backend's logger."""

    class Severity(enum.Enum):
        INTERNAL_ERROR = 0
        ERROR = 1
        WARNING = 2
        INFO = 3
        VERBOSE = 4


class FakeTensorRt(types.ModuleType):
    """The module `tensorrt`, or with `rtx` the module `tensorrt_rtx`, its runtime half."""

    ILogger = ILogger
    ExecutionContextAllocationStrategy = enum.Enum(
        "ExecutionContextAllocationStrategy", "STATIC ON_PROFILE_CHANGE USER_MANAGED"
    )

    def __init__(self, cudart: FakeCudart, *, rtx: bool = False, version: str = "11.4.0") -> None:
        super().__init__("tensorrt_rtx" if rtx else "tensorrt")
        self.__spec__ = ModuleSpec(self.__name__, None)
        self.__version__ = version
        self.cudart = cudart
        self.refuses_capture = False  # enqueue answers False and records nothing
        self.fails_at: int | None = None  # the enqueue, counted from 0, that fails
        self.enqueues = 0
        self.contexts = 0
        if rtx:
            self.DynamicShapesKernelSpecializationStrategy = enum.Enum(
                "DynamicShapesKernelSpecializationStrategy", "LAZY EAGER NONE"
            )

    def Runtime(self, logger: Any) -> Runtime:
        return Runtime(self, logger)


class Runtime:
    def __init__(self, module: FakeTensorRt, logger: Any) -> None:
        self.module, self.logger = module, logger

    def deserialize_cuda_engine(self, serialized_engine: bytes) -> ICudaEngine | None:
        severity = ILogger.Severity.ERROR
        if not serialized_engine.startswith(MAGIC):
            self.logger.log(
                severity, "Trying to load an engine created with incompatible serialization version"
            )
            return None
        header, _, rest = serialized_engine[len(MAGIC) :].partition(b"\n")
        content = json.loads(header)
        if len(rest) != content["bytes"]:
            self.logger.log(severity, "Serialization assertion plan.header.size == blobSize failed")
            return None
        return ICudaEngine(self.module, self.logger, content["sizes"], rest)


class ICudaEngine:
    """The ONNX graph. Every vector output also exists as float16."""

    def __init__(self, module: FakeTensorRt, logger: Any, sizes: Any, onnx_file: bytes) -> None:
        self.module, self.logger, self.sizes = module, logger, sizes
        self.session, graph = _load(onnx_file)
        self.axes = {
            value.name: [
                axis.dim_param or axis.dim_value for axis in value.type.tensor_type.shape.dim
            ]
            for value in graph.input
        }
        self.outputs = [value.name for value in graph.output]
        self.halves = [] if "word_vectors" in self.outputs else _vectors(self.outputs)
        self.names = [*self.axes, *self.outputs, *(f"{name}.float16" for name in self.halves)]

    @property
    def num_io_tensors(self) -> int:
        return len(self.names)

    def get_tensor_name(self, index: int) -> str:
        return self.names[index]

    def create_runtime_config(self) -> IRuntimeConfig:
        return IRuntimeConfig()

    def create_execution_context(self, how: Any) -> IExecutionContext:
        strategy = how.strategy if isinstance(how, IRuntimeConfig) else how
        assert strategy is self.module.ExecutionContextAllocationStrategy.USER_MANAGED
        self.module.contexts += 1
        return IExecutionContext(self)


class IRuntimeConfig:
    dynamic_shapes_kernel_specialization_strategy: Any = None
    strategy: Any = None

    def set_execution_context_allocation_strategy(self, strategy: Any) -> None:
        self.strategy = strategy


class IExecutionContext:
    def __init__(self, engine: ICudaEngine) -> None:
        self.engine, self.cudart = engine, engine.module.cudart
        self.shapes: dict[str, tuple[int, ...]] = {}
        self.addresses: dict[str, int] = {}
        self.memory = (0, 0)
        self.is_fresh = True  # the first enqueue after a change allocates, so cannot be recorded

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        for axis, size in zip(self.engine.axes[name], shape, strict=True):
            low, _, high = (axis,) * 3 if isinstance(axis, int) else self.engine.sizes[axis]
            if not low <= size <= high:
                return False
        self.shapes[name] = shape
        self.is_fresh = True
        return True

    def update_device_memory_size_for_shapes(self) -> int:
        assert set(self.shapes) == set(self.engine.axes)
        index = self.shapes.get("word_index", (1, 1))
        return 1000 * index[0] * index[1]

    def set_device_memory(self, memory: int, size: int) -> None:
        assert size >= self.update_device_memory_size_for_shapes()
        self.memory = (memory, size)
        self.is_fresh = True

    def set_tensor_address(self, name: str, memory: int) -> bool:
        self.addresses[name] = memory
        return name in self.engine.names

    def execute_async_v3(self, stream_handle: int) -> bool:
        module, stream = self.engine.module, self.cudart.streams[stream_handle]
        assert set(self.addresses) == set(self.engine.names), "a tensor has no address"
        self.cudart.device_bytes(*self.memory)
        number, module.enqueues = module.enqueues, module.enqueues + 1
        if number == module.fails_at:
            self.engine.logger.log(ILogger.Severity.ERROR, "Cuda Runtime (unspecified failure)")
            return False
        if stream.recording is not None and (module.refuses_capture or self.is_fresh):
            return False
        self.is_fresh = False
        shapes, addresses = dict(self.shapes), dict(self.addresses)
        stream.add(lambda: self._compute(shapes, addresses))
        return True

    def _compute(self, shapes: dict[str, tuple[int, ...]], addresses: dict[str, int]) -> None:
        inputs = {}
        for value in self.engine.session.get_inputs():
            dtype = np.int32 if value.type == "tensor(int32)" else np.float32
            size = 4 * int(np.prod(shapes[value.name]))
            view = self.cudart.device_bytes(addresses[value.name], size)
            inputs[value.name] = view.view(dtype).reshape(shapes[value.name]).copy()
        answers = dict(zip(self.engine.outputs, self.engine.session.run(None, inputs), strict=True))
        for name in self.engine.halves:
            answers[f"{name}.float16"] = answers[name].astype(np.float16)
        for name, answer in answers.items():
            self.cudart.device_bytes(addresses[name], answer.nbytes)[...] = _bytes(answer)


def plan_of(onnx_file: bytes, sizes: dict[str, tuple[int, int, int]]) -> bytes:
    """A plan that the fake TensorRT opens."""
    header = json.dumps({"sizes": sizes, "bytes": len(onnx_file)}).encode()
    return MAGIC + header + b"\n" + onnx_file


@functools.cache
def _load(onnx_file: bytes) -> tuple[onnxruntime.InferenceSession, onnx.GraphProto]:
    session = onnxruntime.InferenceSession(onnx_file, providers=["CPUExecutionProvider"])
    return session, onnx.load_from_string(onnx_file).graph


def _vectors(outputs: list[str]) -> list[str]:
    return [name for name in outputs if not name.startswith("final_")]


def _bytes(array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    return np.ascontiguousarray(array).reshape(-1).view(np.uint8)


def _allocate(blocks: dict[int, np.ndarray[Any, Any]], size: int) -> int:
    """A new block full of NaN, 256 bytes from any other."""
    raw = np.full(size + 512, 0xFF, np.uint8)
    start = -raw.ctypes.data % 256
    block = raw[start : start + size]
    blocks[block.ctypes.data] = block
    return block.ctypes.data


def _view(blocks: dict[int, np.ndarray[Any, Any]], address: int, size: int) -> np.ndarray[Any, Any]:
    for start, block in blocks.items():
        if start <= address and address + size <= start + block.size:
            return block[address - start : address - start + size]
    raise AssertionError(f"{size} bytes at {address} are not allocated")
