"""The installation of onnxruntime: its import, its CUDA libraries, and how to repair it."""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import importlib.metadata
import io
import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

from elmo_runtime.errors import BackendUnavailableError

CPU, CUDA = "CPUExecutionProvider", "CUDAExecutionProvider"
_INSTALL = 'pip install "elmo-deploy[cpu]", or "elmo-deploy[gpu]" for NVIDIA GPUs'
_CUDNN = "libcudnn.so.9"  # opened at the first convolution, so the header does not name it
_HEADER_BYTES = 8 << 20  # 17 kB in 1.31
_NVIDIA_LIBRARY = re.compile(rb"\0(lib(?:cu|nv)\w+\.so\.[\d.]+)(?=\0)")
_MISSING_LIBRARY = re.compile(r"(lib[\w.+-]+\.so[.\d]*): cannot open shared object file")
_NEEDED = ("InferenceSession", "SessionOptions", "get_available_providers", "__version__")


def cuda_is_installed() -> bool:
    """Whether a build of onnxruntime for GPUs is installed, even if it is damaged."""
    if _has_distribution("onnxruntime-gpu"):
        return True
    with contextlib.suppress(BackendUnavailableError):
        return CUDA in import_onnxruntime().get_available_providers()
    return False


def missing_cuda_libraries(onnxruntime: Any) -> list[str]:
    """Load the CUDA libraries that onnxruntime-gpu needs; returns the names of the missing ones.

    Without one of them, a CUDA session silently runs on the CPU.
    """
    said = io.StringIO()
    with contextlib.redirect_stdout(said):  # it prints what it cannot find
        onnxruntime.preload_dlls()
    missing = set(_MISSING_LIBRARY.findall(said.getvalue()))
    # The provider itself must not be loaded here: it looks up onnxruntime's state only once.
    provider = Path(onnxruntime.__file__).with_name("capi") / "libonnxruntime_providers_cuda.so"
    if needed := _needed_libraries(provider):
        needed.add(_CUDNN)
    return sorted(missing | set(_unloadable(needed)))


def _needed_libraries(library: Path) -> set[str]:
    """The NVIDIA libraries that the header of a shared library names."""
    try:
        with library.open("rb") as stream:
            header = stream.read(_HEADER_BYTES)
    except OSError:
        return set()
    return {name.decode("ascii") for name in _NVIDIA_LIBRARY.findall(header)}


def _unloadable(names: Iterable[str]) -> Iterator[str]:
    for name in names:
        try:
            ctypes.CDLL(name)
        except OSError:
            yield name


def refuse_telemetry() -> None:
    """Turn telemetry off before onnxruntime is imported, because it reads the variable then.

    Since 1.29, onnxruntime reports its use to Microsoft by default. The thread that does so makes a
    forked process hang at its exit (seen with 1.32).
    """
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")


def import_onnxruntime() -> ModuleType:
    """The module. Raises BackendUnavailableError if it is missing or damaged."""
    refuse_telemetry()
    try:
        library = importlib.import_module("onnxruntime")
    except Exception as error:  # a damaged installation raises errors of any type
        is_absent = isinstance(error, ModuleNotFoundError) and error.name == "onnxruntime"
        raise BackendUnavailableError(
            f"onnxruntime cannot be imported: {type(error).__name__}: {error}",
            hint=_INSTALL if is_absent else _reinstall(),
        ) from error
    if missing := [name for name in _NEEDED if not hasattr(library, name)]:
        # An uninstalled package can leave an empty directory, which Python imports.
        folders = ", ".join(getattr(library, "__path__", ["?"]))
        raise BackendUnavailableError(
            f"onnxruntime in {folders} is damaged: it has no {missing[0]}", hint=_reinstall()
        )
    return library


def _reinstall() -> str:
    """The command that repairs the installed distribution."""
    name = "onnxruntime-gpu" if _has_distribution("onnxruntime-gpu") else "onnxruntime"
    return f"pip install --no-cache-dir --force-reinstall {name}"


def no_cuda_provider() -> BackendUnavailableError:
    """The error of an onnxruntime without CUDA, with the command that installs the right one."""
    if _has_distribution("onnxruntime") and _has_distribution("onnxruntime-gpu"):
        return BackendUnavailableError(
            "onnxruntime and onnxruntime-gpu are both installed, and the one without CUDA wins",
            hint="pip uninstall -y onnxruntime onnxruntime-gpu; pip install onnxruntime-gpu",
        )
    return BackendUnavailableError(
        "this onnxruntime has no CUDA provider", hint='pip install "elmo-deploy[gpu]"'
    )


def _has_distribution(name: str) -> bool:
    try:
        importlib.metadata.distribution(name)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True
