"""Standard streams as a program may find them: closed, not UTF-8, or a pipe without a reader."""

from __future__ import annotations

import os
import sys
from typing import Any, TextIO, cast


class PatientStream:
    """A text stream whose messages are dropped, not errors, once nobody reads them.

    A warning that cannot be shown must not end the work that it is about.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """Write, or drop the text."""
        try:
            return self._stream.write(text)
        except BrokenPipeError:
            return len(text)

    def flush(self) -> None:
        """Flush what there is a reader for."""
        try:
            self._stream.flush()
        except BrokenPipeError:
            silence(self._stream)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def prepare_streams() -> None:
    """Make the standard streams safe to use, whatever the caller left of them."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        stream = getattr(sys, name)
        if stream is None:  # closed; the next file opened would take its number
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: SIM115
        elif mode == "w" and hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    if not isinstance(sys.stderr, PatientStream):
        sys.stderr = cast(TextIO, PatientStream(sys.stderr))


def flush_streams() -> None:
    """Write out what is buffered, as far as there are readers."""
    sys.stderr.flush()
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        silence(sys.stdout)
    except OSError:  # the disk behind it is full
        silence(sys.stdout)
        raise


def silence(stream: TextIO) -> None:
    """Drop what is buffered, for Python would report it again when it exits."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
