"""The modules `tensorrt` (10.x, 11.x) and `tensorrt_rtx` behind one face, and what they log.

They differ in a few setters only; callers ask for those here. Both print nothing: their messages
go to the logger `elmo_runtime.tensorrt`, and to whoever listens while an engine is built or opened.
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

MODULES = {"tensorrt": "tensorrt", "tensorrt-rtx": "tensorrt_rtx"}  # flavour -> module
INSTALL = {flavour: f'pip install "elmo-deploy[{flavour}]"' for flavour in MODULES}

ERRORS = ("ERROR", "INTERNAL_ERROR")

# Without a driver every failure is followed by this line, which says nothing about the failure.
_NOISE = re.compile(r"^\[checkMacros\.cpp::catchCudaError.*cudaError 35.*$", re.MULTILINE)
_PLACE_IN_SOURCE = re.compile(r"\.?\s+In \w+ at /\S+:\d+\)?")

_log = logging.getLogger("elmo_runtime.tensorrt")


@dataclass(frozen=True)
class Message:
    """One line of the library: severity as its own name, e.g. "ERROR"."""

    severity: str
    text: str


class Messages:
    """Where the library's messages go; one object a library, kept for the whole process."""

    def __init__(self) -> None:
        self._listener: list[Message] | None = None
        self._errors: deque[Message] = deque(maxlen=8)
        self._one_listener = threading.RLock()

    def put(self, severity: str, text: str) -> None:
        """Take a message in, from any thread."""
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
        """The errors said since the last call, for computations, which run in many threads."""
        errors = list(self._errors)
        self._errors.clear()
        return errors

    @contextlib.contextmanager
    def heard(self) -> Iterator[list[Message]]:
        """Collect what is said meanwhile. One at a time: a message does not tell its caller."""
        with self._one_listener:
            self._listener = []
            try:
                yield self._listener
            finally:
                self._listener = None


@dataclass(frozen=True)
class Library:
    """One of the two modules. The logger is the process's only one, as the library wants it."""

    flavour: str
    module: Any
    logger: Any
    messages: Messages

    @property
    def version(self) -> str:
        """The version that engines are bound to."""
        return str(self.module.__version__)

    @property
    def builds_for_other_gpus(self) -> bool:
        """Whether a compute capability can be named; else it builds for the GPU at hand."""
        return hasattr(self.module, "ComputeCapability")

    def create_context(self, engine: Any) -> Any:
        """An execution context whose activation memory the caller provides, or None.

        TensorRT-RTX compiles kernels for a new shape when it first runs: at once, because it
        would else run others until then, and a recording would keep those.
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
        """A BuilderFlag, or None where this library does not have it."""
        return getattr(self.module.BuilderFlag, name, None)


def load_library(flavour: str = "auto") -> Library:
    """Import the library of a flavour; "auto" takes tensorrt, else tensorrt-rtx.

    Raises BackendUnavailableError naming the extra to install.
    """
    if flavour != "auto":
        return _load(flavour)
    for candidate in MODULES:
        with contextlib.suppress(BackendUnavailableError):
            return _load(candidate)
    raise BackendUnavailableError(
        "neither tensorrt nor tensorrt_rtx can be imported", hint=" or ".join(INSTALL.values())
    )


# Cached, because the first logger handed to the library must outlive everything made of it.
@functools.cache
def _load(flavour: str) -> Library:
    name = MODULES[flavour]
    try:
        module = importlib.import_module(name)
    except Exception as error:  # a damaged installation fails in its own ways
        raise BackendUnavailableError(
            f"{name} cannot be imported: {error}", hint=INSTALL[flavour]
        ) from error
    if not hasattr(module, "ILogger"):  # the empty folder that an uninstalled package leaves
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
    """The text less the line that machines without a driver add to every error."""
    return _NOISE.sub("", text).strip()


def first_error(messages: Sequence[Message]) -> str:
    """The first thing that went wrong, in one line and without places in the library's source."""
    for message in messages:
        if message.severity in ERRORS:
            return _PLACE_IN_SOURCE.sub("", " ".join(message.text.split()))
    return "the library gave no reason"


def opening_error(name: str, messages: Sequence[Message]) -> ElmoDeployError:
    """Why a plan could not be opened: deserializing gives None and says the reason in the log."""
    said = " ".join(message.text for message in messages)
    reason = first_error(messages)
    rebuild = "build the engine anew"
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
    """Why a computation failed."""
    reason = first_error(messages)
    if "out of memory" in " ".join(message.text for message in messages).lower():
        return DeviceMemoryError(f"{name}: {reason}")
    return BackendError(f"{name}: {reason}")


_LEVELS = {
    "VERBOSE": logging.DEBUG,
    "INFO": logging.DEBUG,
    "WARNING": logging.INFO,  # mostly remarks on the build; what matters comes as an error
    "ERROR": logging.WARNING,
    "INTERNAL_ERROR": logging.ERROR,
}
