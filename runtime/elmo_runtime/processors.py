"""The CPUs that this process may use: its affinity mask and the quota of its container.

A container that may use 2 of 64 CPUs still sees all 64. Threads beyond the quota wait for each
other while the kernel throttles them, which makes a computation several times slower.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

ROOT = Path("/")


def usable_cpus(root: Path = ROOT) -> int:
    """The CPUs that this process may use at the same time, at least 1."""
    cpus = _affinity()
    quota = cpu_quota(root)
    return cpus if quota is None else max(1, min(cpus, math.ceil(quota)))


def is_restricted(root: Path = ROOT) -> bool:
    """Whether this process may use fewer CPUs than the machine has."""
    return usable_cpus(root) < (os.cpu_count() or 1)


def cpu_quota(root: Path = ROOT) -> float | None:
    """The CPUs that the control groups of this process allow (cgroup v1 or v2); None: no limit."""
    quotas = [quota for folder in _groups(root) if (quota := _quota(folder)) is not None]
    return min(quotas, default=None)


def _affinity() -> int:
    if hasattr(os, "process_cpu_count"):  # Python 3.13; it also follows PYTHON_CPU_COUNT
        return int(os.process_cpu_count() or 1)
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _groups(root: Path) -> Iterator[Path]:
    """Yield the directories of the CPU control group of this process and of all its parents."""
    try:
        lines = (root / "proc/self/cgroup").read_text("utf-8", "replace").splitlines()
    except OSError:
        return
    mounts = root / "sys/fs/cgroup"
    for line in lines:
        _, _, rest = line.partition(":")
        controllers, _, group = rest.partition(":")
        names = controllers.split(",")
        if controllers and "cpu" not in names:
            continue
        # v2 has one tree without a controller's name; v1 mounts the tree as "cpu,cpuacct" or "cpu".
        trees = [mounts / controllers, mounts / "cpu"] if controllers else [mounts]
        path = PurePosixPath(group.lstrip("/"))
        for tree in trees:
            for part in (path, *path.parents):  # "." is the root of the tree
                yield tree / part


def _quota(folder: Path) -> float | None:
    """The limit in one directory of a control group; None if it has none."""
    try:
        if (folder / "cpu.max").exists():  # v2: "200000 100000" or "max 100000"
            limit, period = (folder / "cpu.max").read_text("ascii").split()
        else:  # v1: -1 is no limit
            limit = (folder / "cpu.cfs_quota_us").read_text("ascii").strip()
            period = (folder / "cpu.cfs_period_us").read_text("ascii").strip()
        quota = int(limit) / int(period)
    except (OSError, ValueError, ZeroDivisionError):
        return None
    return quota if quota > 0 else None
