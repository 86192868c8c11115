"""What a process holds: resident memory, open files, threads. Linux only."""

from __future__ import annotations

import gc
import os
from pathlib import Path

MIB = 1 << 20


def resident() -> int:
    """Bytes of this process in memory now."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def peak() -> int:
    """The most bytes that it ever held since the last `reset_peak`."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM"):
            return int(line.split()[1]) * 1024
    raise OSError("the kernel tells no VmHWM")


def reset_peak() -> None:
    """Let `peak` begin anew from what is resident now."""
    gc.collect()
    Path("/proc/self/clear_refs").write_text("5")


def open_files() -> int:
    """Descriptors of this process."""
    return len(os.listdir("/proc/self/fd"))


def threads() -> int:
    """Threads of this process, native ones included."""
    return len(os.listdir("/proc/self/task"))
