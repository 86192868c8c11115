"""Open, busy, closed: lets a close wait for running calls, and refuses use after a fork."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterator

from elmo_runtime.errors import ClosedError


class Lifecycle:
    """Counts the calls that use a resource of this process."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._process = os.getpid()
        self._changed = threading.Condition()
        self._running = 0
        self._closed = False

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        """Hold the resource open. Raises ClosedError after close, and in a forked process."""
        self._refuse_fork()  # first: the lock may have been held by a thread that is not here
        with self._changed:
            if self._closed:
                raise ClosedError(f"{self._name} is closed", hint="load the bundle again")
            self._running += 1
        try:
            yield
        finally:
            with self._changed:
                self._running -= 1
                self._changed.notify_all()

    def close(self) -> bool:
        """Refuse new calls and wait for the running ones; true for the first caller alone.

        In a forked process nothing is done: the resource belongs to the parent.
        """
        if os.getpid() != self._process:
            return False
        with self._changed:
            first, self._closed = not self._closed, True
            self._changed.wait_for(lambda: self._running == 0)
        return first

    def _refuse_fork(self) -> None:
        if os.getpid() != self._process:
            raise ClosedError(
                f"{self._name} was loaded in process {self._process},"
                f" and this is its fork {os.getpid()}: the backend's threads did not come along",
                hint="load the bundle in each process after it starts (torch's DataLoader: in"
                " worker_init_fn), or start processes by spawn or forkserver, to which an embedder"
                " can be passed",
            )
