"""What this machine can run: packages, driver, devices, and the backends that really work.

Every backend computes something, because lists of providers are not reliable: onnxruntime-gpu
without CUDA lists the CUDA provider as available and then computes on the CPU.
"""

from __future__ import annotations

import importlib
import math
import platform
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from elmo_runtime.errors import BackendUnavailableError

PACKAGES = (
    "numpy",
    "onnxruntime",
    "onnxruntime-gpu",
    "tensorrt",
    "tensorrt-rtx",
    "cuda-bindings",
    "torch",
    "onnx",
    "h5py",
    "safetensors",
)
DRIVER = Path("/proc/driver/nvidia/version")

# An ONNX model of one node, y = exp(x): opset 17, ir version 8, x and y float of size n.
_EXP = (
    b'\x08\x08:8\n\x0b\n\x01x\x12\x01y"\x03Exp\x12\x05probeZ\x10\n\x01x\x12\x0b\n\t\x08\x01\x12\x05'
    b"\n\x03\x12\x01nb\x10\n\x01y\x12\x0b\n\t\x08\x01\x12\x05\n\x03\x12\x01nB\x04\n\x00\x10\x11"
)


@dataclass(frozen=True, kw_only=True)
class Finding:
    """The result of one check; `hint` says how to fix it if it is not ok."""

    subject: str
    ok: bool
    detail: str
    hint: str = ""


@dataclass(frozen=True, kw_only=True)
class Environment:
    """All that `elmo-deploy doctor` reports."""

    packages: dict[str, str | None]
    driver: Finding
    backends: tuple[Finding, ...]
    traps: tuple[Finding, ...]

    @property
    def usable(self) -> bool:
        """True if at least one backend works."""
        return any(backend.ok for backend in self.backends)


def examine() -> Environment:
    """Check this machine; this takes a second and changes nothing."""
    packages = {name: _version(name) for name in PACKAGES}
    driver = find_driver()
    return Environment(
        packages=packages,
        driver=driver,
        backends=(
            try_tensorrt("tensorrt", driver),
            try_tensorrt("tensorrt_rtx", driver),
            try_onnxruntime("onnxruntime-cuda", "CUDAExecutionProvider", extra="gpu"),
            try_native(),
            try_onnxruntime("onnxruntime-cpu", "CPUExecutionProvider", extra="cpu"),
        ),
        traps=tuple(find_traps(packages)),
    )


def find_driver() -> Finding:
    """The NVIDIA driver and its devices with their compute capabilities."""
    loaded = DRIVER.exists()
    try:
        devices = _cuda_devices()
    except Exception:  # cuda-bindings is missing or damaged, in one of many ways
        detail = "loaded" if loaded else "no NVIDIA driver"
        hint = 'pip install "elmo-deploy[gpu]" to see the devices' if loaded else ""
        return Finding(subject="NVIDIA driver", ok=loaded, detail=detail, hint=hint)
    if devices:
        return Finding(subject="NVIDIA driver", ok=True, detail="; ".join(devices))
    return Finding(subject="NVIDIA driver", ok=False, detail="no device that CUDA can use")


def try_onnxruntime(subject: str, provider: str, *, extra: str) -> Finding:
    """Compute one number with this provider only."""
    install = f'pip install "elmo-deploy[{extra}]"'

    def attempt() -> str:
        from elmo_runtime.backends.onnxruntime.installation import import_onnxruntime

        onnxruntime = import_onnxruntime()
        if provider not in onnxruntime.get_available_providers():
            raise BackendUnavailableError("this onnxruntime was built without it", hint=install)
        _compute_exp(onnxruntime, provider)
        return f"onnxruntime {onnxruntime.__version__}"

    return _attempt(subject, attempt, hint=install)


def try_native() -> Finding:
    """Load the native CPU library; without it, ONNX Runtime computes on the CPU."""
    from elmo_runtime.backends.native.cores import usable_cores
    from elmo_runtime.backends.native.library import LIBRARY, instruction_set
    from elmo_runtime.errors import BackendUnavailableError

    try:
        name = instruction_set()
    except BackendUnavailableError as error:
        hint = _hint_for_native(LIBRARY.exists())
        return Finding(subject="native", ok=False, detail=error.what, hint=hint)
    if name is None:
        detail = "this processor has no AVX2, or lacks what ELMO_DEPLOY_NATIVE_ISA names"
        return Finding(subject="native", ok=False, detail=detail)
    return Finding(subject="native", ok=True, detail=f"{name}, {usable_cores()} threads")


def _hint_for_native(is_built: bool) -> str:
    """The fix if the native library cannot be loaded; the library is optional."""
    if platform.system() != "Linux" or platform.machine() != "x86_64":
        return ""  # it does not exist for this machine
    from elmo_runtime.installation import INSTALL_AGAIN

    if is_built or shutil.which("g++") or shutil.which("clang++"):
        return f"optional, for a faster CPU backend: {INSTALL_AGAIN}"
    return f"optional, for a faster CPU backend: install g++, then: {INSTALL_AGAIN}"


def try_tensorrt(module: str, driver: Finding) -> Finding:
    """Start the library; without a device it can build engines but not run them."""
    subject = module.replace("_", "-")

    def attempt() -> str:
        library = importlib.import_module(module)
        if not hasattr(library, "Runtime"):  # the empty directory of an uninstalled package
            reinstall = f"pip install --no-cache-dir --force-reinstall {subject}"
            raise BackendUnavailableError(f"{module} is damaged", hint=reinstall)
        if library.Runtime(library.Logger(library.Logger.ERROR)) is None:
            raise RuntimeError(f"{module} {library.__version__} does not start")
        if not driver.ok:
            raise RuntimeError(f"{library.__version__} can build engines here, but not run them")
        return str(library.__version__)

    return _attempt(subject, attempt, hint=f'pip install "elmo-deploy[{subject}]"')


def find_traps(packages: dict[str, str | None]) -> list[Finding]:
    """Find combinations of packages that look right but do not work."""
    if not (packages["onnxruntime"] and packages["onnxruntime-gpu"]):
        return []
    return [
        Finding(
            subject="onnxruntime twice",
            ok=False,
            detail="onnxruntime and onnxruntime-gpu overwrite each other's files:"
            f" {_which_onnxruntime()} was installed last and is the one in use",
            hint="pip uninstall -y onnxruntime onnxruntime-gpu, then install one of them",
        )
    ]


def _which_onnxruntime() -> str:
    """The distribution that was installed last: only the build for GPUs has the CUDA provider."""
    from elmo_runtime.backends.onnxruntime.installation import CUDA, import_onnxruntime

    try:
        providers = import_onnxruntime().get_available_providers()
    except Exception:  # it is damaged, and the backends report that
        return "one of them"
    return "onnxruntime-gpu" if CUDA in providers else "onnxruntime (without CUDA)"


def _attempt(subject: str, attempt: Callable[[], str], *, hint: str) -> Finding:
    try:
        return Finding(subject=subject, ok=True, detail=attempt())
    except ModuleNotFoundError as error:
        return Finding(subject=subject, ok=False, detail=f"{error.name} is missing", hint=hint)
    except BackendUnavailableError as error:
        return Finding(subject=subject, ok=False, detail=error.what, hint=error.hint)
    except Exception as error:  # native libraries raise many kinds of errors; each is a result
        return Finding(subject=subject, ok=False, detail=_one_line(error))


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__


def _compute_exp(onnxruntime: Any, provider: str) -> None:
    import numpy as np

    from elmo_runtime.backends.onnxruntime.installation import CPU, missing_cuda_libraries

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    if provider != CPU:
        if missing := missing_cuda_libraries(onnxruntime):
            raise BackendUnavailableError(
                f"CUDA libraries cannot be loaded: {', '.join(missing)}",
                hint='pip install "elmo-deploy[gpu]" brings them; docs/guides/engines.md lists the'
                " versions that fit your driver",
            )
        options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
    session = onnxruntime.InferenceSession(_EXP, options, providers=[provider])
    if session.get_providers()[0] != provider:
        raise RuntimeError(f"onnxruntime used {session.get_providers()[0]} instead")
    (answer,) = session.run(None, {"x": np.ones(1, np.float32)})
    if not math.isclose(float(answer[0]), math.e, rel_tol=1e-4):
        raise RuntimeError(f"exp(1) is {float(answer[0])}, not e")


def _cuda_devices() -> list[str]:
    from cuda.bindings import runtime as cudart

    error, count = cudart.cudaGetDeviceCount()
    if error != cudart.cudaError_t.cudaSuccess:
        return []
    found = []
    for index in range(count):
        _, properties = cudart.cudaGetDeviceProperties(index)
        name = properties.name.decode(errors="replace").strip("\0")
        found.append(f"{name} (compute capability {properties.major}.{properties.minor})")
    return found


def _version(package: str) -> str | None:
    try:
        return version(package) or None
    except (PackageNotFoundError, KeyError, TypeError, OSError):  # none, or without metadata
        return None
