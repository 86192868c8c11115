"""Admits calls: limits how many run at once, and refuses them after a close or a fork."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterator

from elmo_runtime.errors import BusyError, ClosedError
from elmo_runtime.options import Limits


class CallGate:
    """Counts the calls that use a resource of this process. Any number of threads may share it."""

    def __init__(self, name: str, limits: Limits | None = None) -> None:
        self._name, self._limits = name, limits or Limits()
        self._process = os.getpid()
        self._changed = threading.Condition()
        self._running = self._waiting = 0
        self._closed = False

    @contextlib.contextmanager
    def call(self) -> Iterator[None]:
        """Wait for a turn, then keep the resource open while the call runs.

        Raises ClosedError after `close` and in a forked process, BusyError when too many calls wait
        or this call waited too long.
        """
        self._refuse_fork()  # before the lock, which a thread of the parent may have held
        with self._changed:
            if self._closed:
                raise ClosedError(f"{self._name} is closed", hint="load the bundle again")
            if not self._has_room():
                self._wait()
            self._running += 1
        try:
            yield
        finally:
            with self._changed:
                self._running -= 1
                self._changed.notify_all()

    def close(self) -> bool:
        """Refuse new calls and wait for the admitted ones; true for the first caller only.

        A forked process does nothing, because the resource belongs to its parent.
        """
        if os.getpid() != self._process:
            return False
        with self._changed:
            first, self._closed = not self._closed, True
            self._changed.wait_for(lambda: self._running == self._waiting == 0)
        return first

    def _has_room(self) -> bool:
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
            in_time = self._changed.wait_for(self._has_room, limits.timeout)
        finally:
            self._waiting -= 1
        if not in_time:
            raise BusyError(
                f"no turn within {limits.timeout} s: {self._running} calls run, others wait",
                hint="try again later, or load with a larger timeout or max_running",
            )

    def _refuse_fork(self) -> None:
        if os.getpid() != self._process:
            raise ClosedError(
                f"{self._name} was loaded in process {self._process}, and this is its fork"
                f" {os.getpid()}: the threads of the backend exist only in the parent process",
                hint="load the bundle in each process after it starts (torch's DataLoader: in"
                " worker_init_fn), or start processes with spawn or forkserver, to which an"
                " embedder can be passed",
            )
