"""Standard streams that are closed, not UTF-8, or pipes without a reader."""

from __future__ import annotations

import os
import sys
from typing import Any, TextIO, cast


class PatientStream:
    """A text stream that drops messages when its reader has gone.

    A warning that cannot be shown must not end the command.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """Write the text, or drop it."""
        try:
            return self._stream.write(text)
        except BrokenPipeError:
            return len(text)

    def flush(self) -> None:
        """Flush the stream if it has a reader."""
        try:
            self._stream.flush()
        except BrokenPipeError:
            silence(self._stream)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def prepare_streams() -> None:
    """Make the standard streams safe to use in every state."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        stream = getattr(sys, name)
        if stream is None:  # Closed. The next opened file would take its number.
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: SIM115
        elif mode == "w" and hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    if not isinstance(sys.stderr, PatientStream):
        sys.stderr = cast(TextIO, PatientStream(sys.stderr))


def flush_streams() -> None:
    """Flush the buffers of the streams that have readers."""
    sys.stderr.flush()
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        silence(sys.stdout)
    except OSError:  # The disk is full.
        silence(sys.stdout)
        raise


def silence(stream: TextIO) -> None:
    """Drop the buffer, because Python would report the error again at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
