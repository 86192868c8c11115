"""One worker: a stream, its memory, and an execution context for every known shape.

Contexts share the activation memory of the worker, because only one of them runs at a time. A
context keeps its shape and, after its second run, its recorded work. NVIDIA requires one context
per CUDA graph, because a context that changes its shape invalidates its recordings.
"""

from __future__ import annotations

import contextlib
import math
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from elmo_runtime.backends.tensorrt.buckets import Region, shape_of
from elmo_runtime.backends.tensorrt.cuda import Device, DeviceBuffer, PinnedBuffer
from elmo_runtime.backends.tensorrt.engine import OpenPlan
from elmo_runtime.backends.tensorrt.library import Library, running_error
from elmo_runtime.bundle.manifest import Tensor
from elmo_runtime.errors import BackendError

Arrays = Mapping[str, NDArray[Any]]
Sizes = Mapping[str, int]  # free axis -> its size in this call
CONTEXTS = 64  # per worker; the least recently used one is removed
ALIGNMENT = 256
ACTIVATION_STEP = 32 << 20  # grow in steps, because growth invalidates every recording


@dataclass(frozen=True)
class Call:
    """A padded batch for one plan.

    sizes: of the padded batch. uploads: inputs that are copied for this call. resident: addresses
    of inputs that are on the device already. wanted: outputs, with their shapes without padding.
    """

    plan: OpenPlan
    sizes: Sizes
    uploads: Arrays
    resident: Mapping[str, int]
    wanted: Mapping[str, tuple[int, ...]]


class Worker:
    """Runs one call after another on its own stream; one thread at a time may use it."""

    def __init__(self, library: Library, device: Device, *, record: bool = True) -> None:
        self._library, self._device, self._record = library, device, record
        self.stream = device.create_stream()
        self._activations = DeviceBuffer(device)
        self._inputs = DeviceBuffer(device)
        self._staged_inputs = PinnedBuffer(device)
        self._outputs: dict[str, DeviceBuffer] = {}
        self._staged_outputs = PinnedBuffer(device)
        self._executions: OrderedDict[tuple[Any, ...], _Execution] = OrderedDict()

    def run(self, call: Call) -> dict[str, NDArray[Any]]:
        """The requested outputs; each array owns its memory."""
        execution = self._execution(call)
        addresses = self._upload(call) | dict(call.resident)
        execution.bind(addresses | self._reserve_outputs(call))
        execution.reserve(self._activations)
        execution.run(self.stream)
        places = self._download(call)
        self._device.synchronize(self.stream)
        return {name: view.copy() for name, view in places.items()}

    def close(self) -> None:
        """Free everything; no call is running, but a failed one may have left work in the queue."""
        with contextlib.suppress(BackendError):
            self._device.synchronize(self.stream)
        for execution in self._executions.values():
            execution.close()
        self._executions.clear()
        for buffer in (self._activations, self._inputs, *self._outputs.values()):
            buffer.free()
        for staged in (self._staged_inputs, self._staged_outputs):
            staged.free()
        self._device.destroy_stream(self.stream)

    def _execution(self, call: Call) -> _Execution:
        """The context for this shape; a new one may replace the least recently used one."""
        key = (call.plan.plan.file, *sorted(call.sizes.items()))
        if key in self._executions:
            self._executions.move_to_end(key)
            return self._executions[key]
        while len(self._executions) >= CONTEXTS:
            self._executions.popitem(last=False)[1].close()
        execution = _Execution(
            self._library, self._device, call.plan, call.sizes, record=self._record
        )
        self._executions[key] = execution
        return execution

    def _upload(self, call: Call) -> dict[str, int]:
        """Queue one copy of all inputs of this call; returns their addresses on the device."""
        offsets, end = {}, 0
        for name, array in call.uploads.items():
            offsets[name] = end
            end += math.ceil(array.nbytes / ALIGNMENT) * ALIGNMENT
        self._staged_inputs.reserve(end)
        self._inputs.reserve(end)
        for name, array in call.uploads.items():
            bytes_of = self._staged_inputs.bytes[offsets[name] : offsets[name] + array.nbytes]
            bytes_of.view(array.dtype).reshape(array.shape)[...] = array
        if end:
            self._device.copy_in(
                self._inputs.pointer, self._staged_inputs.pointer, end, self.stream
            )
        return {name: self._inputs.pointer + offset for name, offset in offsets.items()}

    def _reserve_outputs(self, call: Call) -> dict[str, int]:
        """Every output has memory, because the library writes all of them."""
        addresses = {}
        for tensor in call.plan.outputs:
            buffer = self._outputs.setdefault(tensor.name, DeviceBuffer(self._device))
            buffer.reserve(_bytes(tensor, call.sizes))
            addresses[tensor.name] = buffer.pointer
        return addresses

    def _download(self, call: Call) -> dict[str, NDArray[Any]]:
        """Queue the copies of the wanted corners; returns views of their destination."""
        tensors = {tensor.name: tensor for tensor in call.plan.outputs}
        sizes = {
            name: math.prod(shape) * np.dtype(tensors[name].dtype).itemsize
            for name, shape in call.wanted.items()
        }
        self._staged_outputs.reserve(sum(sizes.values()))
        places, start = {}, 0
        for name, shape in call.wanted.items():
            self._copy_corner(tensors[name], call.sizes, shape, start)
            staged = self._staged_outputs.bytes[start : start + sizes[name]]
            places[name] = staged.view(tensors[name].dtype).reshape(shape)
            start += sizes[name]
        return places

    def _copy_corner(
        self, tensor: Tensor, sizes: Sizes, wanted: tuple[int, ...], start: int
    ) -> None:
        itemsize = np.dtype(tensor.dtype).itemsize
        region = Region.corner(shape_of(tensor.axes, sizes), wanted, itemsize)
        if region.width == 0:  # a batch of sentences without tokens
            return
        source = self._outputs[tensor.name].pointer
        target = self._staged_outputs.pointer + start
        for block in region.blocks:
            self._device.copy_out_rows(
                target,
                source + block,
                width=region.width,
                pitch=region.pitch,
                rows=region.rows,
                stream=self.stream,
            )
            target += region.width * region.rows


class _Execution:
    """A context for one shape: bound to addresses, run, and recorded from the second run on."""

    def __init__(
        self, library: Library, device: Device, plan: OpenPlan, sizes: Sizes, *, record: bool
    ) -> None:
        self._library, self._device = library, device
        self._name = plan.plan.file
        self._may_record = record and plan.plan.capturable
        self._addresses: dict[str, int] = {}
        self._activations = (0, 0)
        self._recorded: Any | None = None
        self._has_run = False
        self._context = library.create_context(plan.engine)
        if self._context is None:
            raise self._error("the execution context cannot be created")
        for tensor in plan.inputs:
            if not self._context.set_input_shape(tensor.name, shape_of(tensor.axes, sizes)):
                raise self._error(f"{tensor.name} of {dict(sizes)} is refused")
        self._needed = int(self._context.update_device_memory_size_for_shapes())

    def bind(self, addresses: Mapping[str, int]) -> None:
        """Set the addresses of inputs and outputs that moved."""
        if addresses == self._addresses:
            return
        self._forget_recording()
        self._addresses = {}
        for name, address in addresses.items():
            if not self._context.set_tensor_address(name, address):
                raise self._error(f"the address of {name} is refused")
        self._addresses = dict(addresses)

    def reserve(self, activations: DeviceBuffer) -> None:
        """Provide enough activation memory, and set its address if it moved."""
        activations.reserve(math.ceil(self._needed / ACTIVATION_STEP) * ACTIVATION_STEP)
        if (activations.pointer, activations.size) == self._activations:
            return
        self._forget_recording()
        self._context.set_device_memory(activations.pointer, activations.size)
        self._activations = (activations.pointer, activations.size)

    def run(self, stream: Any) -> None:
        """Queue the computation."""
        if self._recorded is None and self._has_run and self._may_record:
            self._recorded = self._record(stream)
            self._may_record = self._recorded is not None
        if self._recorded is not None:
            self._device.launch(self._recorded, stream)
            return
        if not self._context.execute_async_v3(int(stream)):
            raise self._error("the computation failed")
        self._has_run = True  # only now is all memory allocated, which a recording must not do

    def close(self) -> None:
        """Free the recording and the context."""
        self._forget_recording()
        self._context = None

    def _record(self, stream: Any) -> Any | None:
        """Record the computation; None if the library or the driver refuses.

        After a refused enqueue, the recording is empty or stale and launches without an error, so
        the result of the enqueue decides.
        """
        self._device.begin_capture(stream)
        accepted = False
        try:
            accepted = self._context.execute_async_v3(int(stream))
        finally:
            recorded = self._device.end_capture(stream)
        if accepted:
            return recorded
        if recorded is not None:
            self._device.destroy_graph(recorded)
        return None

    def _forget_recording(self) -> None:
        self._has_run = False
        if self._recorded is not None:
            recorded, self._recorded = self._recorded, None
            self._device.destroy_graph(recorded)

    def _error(self, what: str) -> Exception:
        return running_error(f"{self._name}: {what}", self._library.messages.last_errors())


def _bytes(tensor: Tensor, sizes: Sizes) -> int:
    return math.prod(shape_of(tensor.axes, sizes)) * np.dtype(tensor.dtype).itemsize
