"""How many calls run at once, how many may wait for them, and how long: a server's safety valve."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from dataclasses import dataclass

from elmo_runtime.errors import BusyError, InputError


@dataclass(frozen=True, kw_only=True)
class Limits:
    """None is no limit. timeout: seconds that a call may wait for its turn."""

    max_running: int | None = None
    max_waiting: int | None = None
    timeout: float | None = None

    def __post_init__(self) -> None:
        """Refuse limits that no call can meet."""
        for name, least in (("max_running", 1), ("max_waiting", 0)):
            value = getattr(self, name)
            whole = isinstance(value, int) and not isinstance(value, bool)
            if value is not None and not (whole and value >= least):
                raise InputError(f"{name} is {value!r}, must be an integer of at least {least}")
        if self.timeout is not None and not self.timeout >= 0:
            raise InputError(f"timeout is {self.timeout!r}, must be a number of seconds")
        if self.max_running is None and (self.max_waiting, self.timeout) != (None, None):
            raise InputError(
                "max_waiting and timeout without max_running: no call would ever wait",
                hint="give max_running, e.g. 1",
            )


class Admission:
    """Lets calls in by the limits; safe for many threads."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._running = self._waiting = 0
        self._changed = threading.Condition()

    @contextlib.contextmanager
    def turn(self) -> Iterator[None]:
        """Wait for a turn and hold it. Raises BusyError when too many wait, or for too long."""
        if self._limits.max_running is None:
            yield
            return
        with self._changed:
            if not self._may_run():
                self._wait()
            self._running += 1
        try:
            yield
        finally:
            with self._changed:
                self._running -= 1
                self._changed.notify()

    def _may_run(self) -> bool:
        return self._limits.max_running is None or self._running < self._limits.max_running

    def _wait(self) -> None:
        limits = self._limits
        if limits.max_waiting is not None and self._waiting >= limits.max_waiting:
            raise BusyError(
                f"{self._running} calls run and {self._waiting} wait, which is the limit",
                hint="try again later, or load with a larger max_waiting",
            )
        self._waiting += 1
        try:
            in_time = self._changed.wait_for(self._may_run, limits.timeout)
        finally:
            self._waiting -= 1
        if not in_time:
            raise BusyError(
                f"no turn within {limits.timeout} s: {self._running} calls run, others wait",
                hint="try again later, or load with a larger timeout or max_running",
            )
