"""The useful number of threads: hyperthreads of one core share its multipliers."""

from __future__ import annotations

import os
from pathlib import Path

from elmo_runtime.processors import ROOT, usable_cpus


def usable_cores(root: Path = ROOT) -> int:
    """The physical cores that this process may use, within its quota; at least 1."""
    cores = {_siblings(root, cpu) for cpu in os.sched_getaffinity(0)}
    return min(len(cores), usable_cpus(root))


def _siblings(root: Path, cpu: int) -> str:
    """An id that all hyperthreads of a core share; unique if it is unknown."""
    path = root / f"sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list"
    try:
        return path.read_text("ascii").strip()
    except (OSError, UnicodeDecodeError):
        return f"cpu{cpu}"
