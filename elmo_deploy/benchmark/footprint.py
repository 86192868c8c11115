"""The cost of a system besides time: the memory of its process and of the device."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from elmo_runtime.backends.tensorrt.cuda import Device
from elmo_runtime.errors import BackendError, BackendUnavailableError

STATUS = Path("/proc/self/status")


@dataclass(frozen=True)
class Footprint:
    """Bytes of the system's own process; None if the platform does not report them."""

    load_seconds: float  # from the import of the library until the model is ready
    first_vector_seconds: float  # from the same start until the vectors of the first sentence
    loaded_bytes: int | None  # resident when the model is ready
    peak_bytes: int | None  # highest resident size during all loads
    device_bytes: int | None  # device memory in use after the loads, minus that before


def resident_bytes() -> int | None:
    """Resident memory of this process."""
    return _status_bytes("VmRSS:")


def peak_resident_bytes() -> int | None:
    """Highest resident memory of this process so far.

    getrusage is no alternative: its peak of a spawned process starts with that of the parent.
    """
    return _status_bytes("VmHWM:")


def device_bytes_in_use() -> int | None:
    """Memory of the first GPU that all processes use; None without a GPU."""
    try:
        free, total = Device.open().free_and_total()
    except (BackendError, BackendUnavailableError):
        return None
    return total - free


def _status_bytes(field: str) -> int | None:
    try:
        lines = STATUS.read_text("ascii").splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith(field)), None)
