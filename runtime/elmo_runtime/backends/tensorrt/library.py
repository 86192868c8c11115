"""One interface to the modules `tensorrt` (10.x, 11.x) and `tensorrt_rtx` and their logs.

They differ in a few setters only, which this module provides. Their messages are not printed: they
go to the logger `elmo_runtime.tensorrt` and to listeners while an engine is built or opened.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import logging
import re
import threading
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from elmo_runtime.errors import (
    BackendError,
    BackendUnavailableError,
    DeviceMemoryError,
    ElmoDeployError,
    EngineError,
    EngineMismatchError,
)

MODULES = {"tensorrt": "tensorrt", "tensorrt-rtx": "tensorrt_rtx"}  # compiler -> module
INSTALL = {flavour: f'pip install "elmo-deploy[{flavour}]"' for flavour in MODULES}

ERRORS = ("ERROR", "INTERNAL_ERROR")

# Without a driver this line follows every failure; it does not explain the failure.
_NOISE = re.compile(r"^\[checkMacros\.cpp::catchCudaError.*cudaError 35.*$", re.MULTILINE)
_PLACE_IN_SOURCE = re.compile(r"\.?\s+In \w+ at /\S+:\d+\)?")

_log = logging.getLogger("elmo_runtime.tensorrt")


@dataclass(frozen=True)
class Message:
    """One line of the library. severity: its name, e.g. "ERROR"."""

    severity: str
    text: str


class Messages:
    """The receiver of the messages of a library; one object per library and process."""

    def __init__(self) -> None:
        self._listener: list[Message] | None = None
        self._errors: deque[Message] = deque(maxlen=8)
        self._one_listener = threading.RLock()

    def put(self, severity: str, text: str) -> None:
        """Receive a message from any thread."""
        text = without_noise(text)
        if not text:
            return
        message = Message(severity, text)
        if severity in ERRORS:
            self._errors.append(message)
        if self._listener is not None:
            self._listener.append(message)
        else:
            _log.log(_LEVELS.get(severity, logging.ERROR), "%s", text)

    def last_errors(self) -> list[Message]:
        """The errors since the last call, for computations, which run in many threads."""
        errors = list(self._errors)
        self._errors.clear()
        return errors

    @contextlib.contextmanager
    def heard(self) -> Iterator[list[Message]]:
        """Collect the messages of a block, one block at a time: messages name no thread."""
        with self._one_listener:
            self._listener = []
            try:
                yield self._listener
            finally:
                self._listener = None


@dataclass(frozen=True)
class Library:
    """One of the two modules. The library allows only one logger per process."""

    flavour: str
    module: Any
    logger: Any
    messages: Messages

    @property
    def version(self) -> str:
        """The version to which engines are bound."""
        return str(self.module.__version__)

    @property
    def builds_for_other_gpus(self) -> bool:
        """Whether a compute capability can be chosen; otherwise it builds for the current GPU."""
        return hasattr(self.module, "ComputeCapability")

    def create_context(self, engine: Any) -> Any:
        """An execution context with activation memory of the caller, or None.

        TensorRT-RTX compiles kernels for a new shape when it first runs. It compiles eagerly here,
        because a recording would keep the generic kernels that it runs otherwise.
        """
        user_managed = self.module.ExecutionContextAllocationStrategy.USER_MANAGED
        strategies = getattr(self.module, "DynamicShapesKernelSpecializationStrategy", None)
        if strategies is None:
            return engine.create_execution_context(user_managed)
        config = engine.create_runtime_config()
        config.set_execution_context_allocation_strategy(user_managed)
        config.dynamic_shapes_kernel_specialization_strategy = strategies.EAGER
        return engine.create_execution_context(config)

    def builder_flag(self, name: str) -> Any | None:
        """A BuilderFlag, or None if this library does not have it."""
        return getattr(self.module.BuilderFlag, name, None)


def load_library(flavour: str = "auto") -> Library:
    """Import a compiler; "auto" is tensorrt, or else tensorrt-rtx.

    Raises BackendUnavailableError with the extra to install.
    """
    if flavour != "auto":
        return _load(flavour)
    for candidate in MODULES:
        with contextlib.suppress(BackendUnavailableError):
            return _load(candidate)
    raise BackendUnavailableError(
        "neither tensorrt nor tensorrt_rtx can be imported", hint=" or ".join(INSTALL.values())
    )


# Cached, because the first logger of the library must outlive all of its objects.
@functools.cache
def _load(flavour: str) -> Library:
    name = MODULES[flavour]
    try:
        module = importlib.import_module(name)
    except Exception as error:  # a damaged installation raises errors of any type
        raise BackendUnavailableError(
            f"{name} cannot be imported: {error}", hint=INSTALL[flavour]
        ) from error
    if not hasattr(module, "ILogger"):  # an uninstalled package leaves an empty directory
        raise BackendUnavailableError(
            f"{name} is damaged: it has no ILogger",
            hint=f"pip install --no-cache-dir --force-reinstall {flavour}",
        )
    messages = Messages()
    return Library(flavour, module, _make_logger(module, messages), messages)


def _make_logger(module: Any, messages: Messages) -> Any:
    class Logger(module.ILogger):  # type: ignore[misc]
        def __init__(self) -> None:
            module.ILogger.__init__(self)

        def log(self, severity: Any, text: str) -> None:
            messages.put(str(severity).rpartition(".")[2], text)

    return Logger()


def without_noise(text: str) -> str:
    """The text without the line that machines without a driver add to every error."""
    return _NOISE.sub("", text).strip()


def first_error(messages: Sequence[Message]) -> str:
    """The first error, in one line and without positions in the source of the library."""
    for message in messages:
        if message.severity in ERRORS:
            return _PLACE_IN_SOURCE.sub("", " ".join(message.text.split()))
    return "the library gave no reason"


def opening_error(name: str, messages: Sequence[Message]) -> ElmoDeployError:
    """The reason why a plan cannot be opened: deserializing returns None and logs the reason."""
    said = " ".join(message.text for message in messages)
    reason = first_error(messages)
    rebuild = "build the engine again"
    if "out of memory" in said.lower():
        return DeviceMemoryError(f"{name} does not fit the device's memory: {reason}")
    if "cudaError 35" in said or "no CUDA-capable device" in said:
        return BackendUnavailableError(
            f"{name} cannot be opened: there is no usable NVIDIA driver here",
            hint="install a driver that is recent enough for this CUDA runtime",
        )
    if "plan.header.size" in said or "minBufferSize" in said or "empty memory" in said:
        return EngineError(f"{name} is truncated: {reason}", hint=rebuild)
    if "incompatible serialization version" in said or "compute capability" in said.lower():
        return EngineMismatchError(
            f"{name} was built by another library or for another GPU: {reason}", hint=rebuild
        )
    return EngineError(f"{name} cannot be opened: {reason}", hint=rebuild)


def running_error(name: str, messages: Sequence[Message]) -> BackendError:
    """The reason why a computation failed."""
    reason = first_error(messages)
    if "out of memory" in " ".join(message.text for message in messages).lower():
        return DeviceMemoryError(f"{name}: {reason}")
    return BackendError(f"{name}: {reason}")


_LEVELS = {
    "VERBOSE": logging.DEBUG,
    "INFO": logging.DEBUG,
    "WARNING": logging.INFO,  # mostly remarks on the build; problems are logged as errors
    "ERROR": logging.WARNING,
    "INTERNAL_ERROR": logging.ERROR,
}
