"""What a system costs beside time: the memory of its process and of the device."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from elmo_runtime.backends.tensorrt.cuda import Device
from elmo_runtime.errors import BackendError, BackendUnavailableError

STATUS = Path("/proc/self/status")


@dataclass(frozen=True)
class Footprint:
    """Bytes are of the system's own process; None where the platform does not tell."""

    load_seconds: float  # from the import of the library to a model that is ready
    first_vector_seconds: float  # from the same start to the vectors of the first sentence
    loaded_bytes: int | None  # resident once the model is ready
    peak_bytes: int | None  # highest resident size while all loads ran
    device_bytes: int | None  # device memory in use after them, less what was in use before


def resident_bytes() -> int | None:
    """Resident memory of this process."""
    return _status_bytes("VmRSS:")


def peak_resident_bytes() -> int | None:
    """Highest resident memory this process ever had.

    Not getrusage: there a spawned process starts with the peak of its parent.
    """
    return _status_bytes("VmHWM:")


def device_bytes_in_use() -> int | None:
    """Memory of the first GPU that is in use, by whatever process; None without a GPU."""
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
