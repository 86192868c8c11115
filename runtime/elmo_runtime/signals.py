"""Signals that end a process: a run stops after its current step, a command cleans up first."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType
from typing import Any

_HANGUP = (signal.SIGHUP,) if hasattr(signal, "SIGHUP") else ()  # not on Windows
ENDING = (signal.SIGTERM, *_HANGUP)
SIGNALS = (signal.SIGINT, *ENDING)


@contextlib.contextmanager
def exit_on_signals() -> Iterator[None]:
    """Within the block, SIGTERM and SIGHUP raise SystemExit(128 + number), to remove scratch files.

    A second signal ends the process at once. A signal that is ignored (nohup) stays ignored.
    """

    def leave(number: int, _frame: FrameType | None) -> None:
        for one in installed:
            signal.signal(one, signal.SIG_DFL)
        raise SystemExit(128 + number)

    in_main_thread = threading.current_thread() is threading.main_thread()
    installed = [
        number for number in ENDING if in_main_thread and signal.getsignal(number) is signal.SIG_DFL
    ]
    for number in installed:
        signal.signal(number, leave)
    try:
        yield
    finally:
        for number in installed:
            signal.signal(number, signal.SIG_DFL)


class StopRequest:
    """`with StopRequest() as stop:` sets `stop.requested` where the default would end the process.

    A second signal has its default effect. Outside the main thread it receives no signals.
    """

    def __init__(self) -> None:
        self.requested = False
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> StopRequest:
        if threading.current_thread() is threading.main_thread():
            heard = [s for s in SIGNALS if signal.getsignal(s) is not signal.SIG_IGN]  # nohup
            self._before = {s: signal.signal(s, self._note) for s in heard}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, _number: int, _frame: FrameType | None) -> None:
        self.requested = True
        for number, handler in self._before.items():
            signal.signal(number, handler)
