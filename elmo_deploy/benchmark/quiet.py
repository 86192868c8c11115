"""Whether other processes use the machine, according to /proc/stat.

Without /proc/stat every moment counts as quiet; only the turns of the systems help then.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path

STAT = Path("/proc/stat")
IDLE_FIELDS = (3, 4)  # idle and iowait, after user, nice and system; the rest is work
GLANCE, PAUSE = 0.06, 0.1  # seconds of an observation, and between two of them
DISTURBED = 0.06  # of one core: what other processes may use during a sample


@dataclass(frozen=True)
class CpuTime:
    """Seconds of the clock, of work on all cores, and of work of this process."""

    wall: float
    machine: float | None
    own: float

    @classmethod
    def now(cls) -> CpuTime:
        """Read the current values."""
        return cls(time.monotonic(), _machine_seconds(), time.process_time())

    def others_since(self, before: CpuTime) -> float:
        """Cores that other processes used between two readings; 0 if that is unknown."""
        if self.machine is None or before.machine is None:
            return 0.0
        others = (self.machine - before.machine) - (self.own - before.own)
        # The kernel counts ticks of 10 ms: each core may be one tick ahead of the process clock.
        return max(others - _tick() * (os.cpu_count() or 1), 0.0) / (self.wall - before.wall)


def wait_until_quiet(limit: float) -> bool:
    """Wait until no other process works; return False after `limit` seconds."""
    start = time.monotonic()
    while limit > 0:
        before = CpuTime.now()
        time.sleep(GLANCE)
        if CpuTime.now().others_since(before) <= DISTURBED:
            return True
        if time.monotonic() - start > limit:
            break
        time.sleep(PAUSE)
    return False


def _machine_seconds() -> float | None:
    try:
        first = STAT.read_text("ascii").split("\n", 1)[0]
    except OSError:
        return None
    # cpu user nice system idle iowait irq softirq steal guest guest_nice; user includes guests.
    ticks = [int(field) for field in first.split()[1:9]]
    return _tick() * sum(n for field, n in enumerate(ticks) if field not in IDLE_FIELDS)


def _tick() -> float:
    return 1.0 / os.sysconf("SC_CLK_TCK")
