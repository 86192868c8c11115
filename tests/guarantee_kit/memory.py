"""Resident memory, open files and threads of this process. Linux only."""

from __future__ import annotations

import gc
import os
from pathlib import Path

MIB = 1 << 20


def resident() -> int:
    """Bytes of this process that are in memory now."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def peak() -> int:
    """The maximum of `resident` since the last `reset_peak`."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM"):
            return int(line.split()[1]) * 1024
    raise OSError("the kernel does not report VmHWM")


def reset_peak() -> None:
    """Reset `peak` to the current resident memory."""
    gc.collect()
    Path("/proc/self/clear_refs").write_text("5")


def open_files() -> int:
    """The number of file descriptors of this process."""
    return len(os.listdir("/proc/self/fd"))


def threads() -> int:
    """The number of threads of this process, native ones included."""
    return len(os.listdir("/proc/self/task"))
