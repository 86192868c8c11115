"""Runs functions in child processes, which may crash, hang or be killed.

A server imports numpy, ONNX Runtime and pyarrow once and forks each child, so that hundreds of
children cost milliseconds each. The server itself never loads a bundle.
"""

from __future__ import annotations

import multiprocessing
import os
import resource
import signal
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

PRELOADED = [
    "elmo_deploy.model.reference",
    "elmo_deploy.training",
    "elmo_export.export",
    "elmo_runtime.backends.onnxruntime.backend",
    "elmo_runtime.bulk",
    "elmo_runtime.embedder",
    "onnxruntime",
    "pyarrow.parquet",
    "safetensors.numpy",
    "torch.utils.tensorboard",
]
HANG = 900  # seconds without an answer, which no busy machine takes
WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT


@dataclass(frozen=True)
class Outcome:
    """How a child ended. code: its exit code, minus the signal, or None for a child that hung."""

    code: int | None
    answer: Any  # the result of the function
    error: str  # the traceback, if it raised

    @property
    def killed(self) -> bool:
        """Whether SIGKILL or the limit of its file sizes ended it."""
        return self.code in (-signal.SIGKILL, -signal.SIGXFSZ)


def run_child(
    function: Callable[..., Any],
    *arguments: Any,
    timeout: float = HANG,
    kill_after: float | None = None,
    kill_at: int | None = None,
    kill_at_size: int | None = None,
) -> Outcome:
    """Call `function(*arguments)` in a child and wait at most `timeout` seconds.

    kill_after: seconds until the parent sends SIGKILL. kill_at: the child kills itself right
    before its n-th change of the file system (open for writing, rename, removal). kill_at_size: the
    kernel kills the child in the write that extends a file beyond so many bytes.
    """
    context = multiprocessing.get_context("forkserver")
    reader, writer = context.Pipe(duplex=False)
    child = context.Process(
        target=_child, args=(writer, kill_at, kill_at_size, function, arguments)
    )
    child.start()
    writer.close()
    if kill_after is not None:
        child.join(kill_after)
        child.kill()
    answer, error = _answer(reader, timeout)
    child.join(timeout)
    code = child.exitcode
    child.kill()
    child.join()
    child.close()
    reader.close()
    return Outcome(code, answer, error)


def _answer(reader: Any, timeout: float) -> tuple[Any, str]:
    try:
        return reader.recv() if reader.poll(timeout) else (None, f"no answer in {timeout} s")
    except (EOFError, ConnectionResetError):
        return None, ""


def _child(
    writer: Any,
    kill_at: int | None,
    kill_at_size: int | None,
    function: Callable[..., Any],
    arguments: tuple[Any, ...],
) -> None:
    if kill_at_size is not None:
        signal.signal(signal.SIGXFSZ, signal.SIG_DFL)  # Python ignores it
        resource.setrlimit(resource.RLIMIT_FSIZE, (kill_at_size, kill_at_size))
    if kill_at is not None:
        kill_before_change(kill_at)
    try:
        writer.send((function(*arguments), ""))
    except BaseException:
        writer.send((None, traceback.format_exc()))
        raise SystemExit(1) from None


def kill_before_change(number: int) -> None:
    """Kill this process right before a change of the file system; `number` counts from 1."""
    changes = 0

    def watch(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal changes
        if not is_change(event, arguments):
            return
        changes += 1
        if changes == number:
            os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(watch)


def is_change(event: str, arguments: tuple[Any, ...]) -> bool:
    """Whether an audit event is a change of the file system."""
    if event == "open":
        return bool(arguments[2] & WRITES) and not str(arguments[0]).startswith("/dev/")
    return event in ("os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.link", "os.symlink")


def count_changes(function: Callable[..., Any], *arguments: Any) -> int:
    """Count the file system changes of an undisturbed call. Run it in a child."""
    changes = 0

    def watch(event: str, given: tuple[Any, ...]) -> None:
        nonlocal changes
        changes += is_change(event, given)

    sys.addaudithook(watch)
    function(*arguments)
    return changes
