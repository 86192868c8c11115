"""A system in a separate process, with its own memory, threads and libraries.

The parent calls one process at a time; the others wait without using a core.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from typing import Any

from elmo_deploy.benchmark.footprint import (
    Footprint,
    device_bytes_in_use,
    peak_resident_bytes,
    resident_bytes,
)
from elmo_deploy.benchmark.loads import Load
from elmo_deploy.benchmark.sampling import Sample, one_pass, take_sample
from elmo_deploy.benchmark.subject import Subject
from elmo_deploy.benchmark.systems.table import SYSTEMS
from elmo_runtime.errors import BackendError, ElmoDeployError

SECONDS_TO_END = 10.0


@dataclass(frozen=True)
class Started:
    """A system that is ready: its footprint, and the seconds of the first pass over each load."""

    footprint: Footprint
    first_passes: tuple[float, ...]


class SystemProcess:
    """The parent's side. Raises BackendError with the reason if the system fails."""

    def __init__(self, system: str, subject: Subject, loads: Sequence[Load]) -> None:
        # spawn: a fork would inherit the parent's threads, and CUDA does not survive one.
        context = multiprocessing.get_context("spawn")
        self._connection, theirs = context.Pipe()
        self._stderr = tempfile.TemporaryFile()  # noqa: SIM115 - until close()
        with contextlib.closing(theirs), _redirected_stderr(self._stderr.fileno()) as stderr:
            arguments = (theirs, stderr, system, subject, tuple(loads))
            self._process = context.Process(target=serve, args=arguments, daemon=True)
            self._process.start()

    def start(self) -> Started:
        """Load the system and run every load once, as the warm-up."""
        answer: Started = self._ask("start")
        return answer

    def sample(self, load: int, *, minimum: float, patience: float) -> Sample:
        """A sample of the load with this index."""
        answer: Sample = self._ask("sample", load, minimum, patience)
        return answer

    def stages(self, load: int) -> dict[str, float]:
        """Seconds of one pass by stage."""
        answer: dict[str, float] = self._ask("stages", load)
        return answer

    def close(self) -> None:
        """End the process."""
        self._connection.close()  # the child's next receive sees the end and returns
        self._process.join(SECONDS_TO_END)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()
        self._stderr.close()

    def _ask(self, command: str, *arguments: Any) -> Any:
        try:
            self._connection.send((command, arguments))
            # Wait for the process too: another process may keep its end of the pipe open.
            wait([self._connection, self._process.sentinel])
            if not self._connection.poll():
                raise EOFError
            succeeded, answer = self._connection.recv()
        except (EOFError, BrokenPipeError, ConnectionResetError) as error:
            self._process.join(SECONDS_TO_END)
            raise BackendError(self._cause_of_death()) from error
        if not succeeded:
            raise BackendError(answer)
        return answer

    def _cause_of_death(self) -> str:
        """The exit code, and the last line of the traceback if the process did not start."""
        self._stderr.seek(0)
        lines = self._stderr.read().decode("utf-8", "replace").strip().splitlines()
        reason = f": {lines[-1].strip()}" if lines else ""
        return f"the process died with exit code {self._process.exitcode}{reason}"


@contextlib.contextmanager
def _redirected_stderr(target: int) -> Iterator[Connection]:
    """Let a process that starts now write its errors to `target`; yield the previous stderr.

    Errors of the child's imports and unpickling are printed before any code of this project runs.
    """
    sys.stderr.flush()
    with Connection(os.dup(2), readable=False) as before:
        os.dup2(target, 2)
        try:
            yield before
        finally:
            os.dup2(before.fileno(), 2)


def serve(
    connection: Connection,
    stderr: Connection,
    system: str,
    subject: Subject,
    loads: tuple[Load, ...],
) -> None:
    """The child's side: answer until the parent closes the connection."""
    with stderr:  # from here on, errors are answers and stderr is the user's
        os.dup2(stderr.fileno(), 2)
    server = SystemServer(system, subject, loads)
    while True:
        try:
            command, arguments = connection.recv()
        except EOFError:
            return
        try:
            answer = True, getattr(server, command)(*arguments)
        except ElmoDeployError as error:
            answer = False, str(error)
        except Exception as error:  # at the edge of the process: the parent reports it
            answer = False, f"{type(error).__name__}: {error}"
        connection.send(answer)


class SystemServer:
    """An open system and its loads; the parent calls these methods by name."""

    def __init__(self, system: str, subject: Subject, loads: tuple[Load, ...]) -> None:
        self.system, self.subject, self.loads = SYSTEMS[system], subject, loads

    def start(self) -> Started:
        """Open the system and run every load once."""
        device_before = device_bytes_in_use() if self.system.on_device else None
        start = time.monotonic()
        self.runner = self.system.open(self.subject)
        load_seconds = time.monotonic() - start
        loaded_bytes = resident_bytes()
        self.runner.embed(self.loads[0].calls[0][:1])
        first_vector_seconds = time.monotonic() - start
        first_passes = tuple(sum(one_pass(self.runner.embed, load)) for load in self.loads)
        device_after = device_bytes_in_use() if self.system.on_device else None
        footprint = Footprint(
            load_seconds=load_seconds,
            first_vector_seconds=first_vector_seconds,
            loaded_bytes=loaded_bytes,
            peak_bytes=peak_resident_bytes(),
            device_bytes=None
            if device_before is None or device_after is None
            else device_after - device_before,
        )
        return Started(footprint, first_passes)

    def sample(self, load: int, minimum: float, patience: float) -> Sample:
        """Seconds of every call of a load."""
        return take_sample(self.runner.embed, self.loads[load], minimum=minimum, patience=patience)

    def stages(self, load: int) -> dict[str, float]:
        """Seconds of one pass by stage."""
        seconds: dict[str, float] = {}
        for call in self.loads[load].calls:
            for stage, duration in self.runner.stages(call).items():
                seconds[stage] = seconds.get(stage, 0.0) + duration
        return seconds
