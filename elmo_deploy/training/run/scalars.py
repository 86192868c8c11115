"""Scalars over the steps of a run -> a TensorBoard event file.

torch's SummaryWriter writes in a thread, whose traceback is printed when the disk is full. Here
each record is written at once, and the error is the caller's.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Mapping
from pathlib import Path

from elmo_runtime.files.storage import write_errors


class ScalarFile:
    """A new event file in the directory `folder`; TensorBoard reads it together with the others.

    Steps up to `first_step` come from older files, whose later steps TensorBoard drops.
    """

    def __init__(self, folder: Path, *, first_step: int) -> None:
        from tensorboard.compat.proto.event_pb2 import Event, SessionLog
        from tensorboard.summary.writer.record_writer import RecordWriter

        self._folder = folder
        name = f"events.out.tfevents.{time.time():.0f}.{socket.gethostname()}.{os.getpid()}"
        with write_errors(folder):
            folder.mkdir(parents=True, exist_ok=True)
            self._stream = (folder / name).open("ab", buffering=0)
        self._writer = RecordWriter(self._stream)
        self._write(Event(wall_time=time.time(), file_version="brain.Event:2"))
        start = SessionLog(status=SessionLog.START)
        self._write(Event(wall_time=time.time(), step=first_step, session_log=start))

    def add(self, step: int, values: Mapping[str, float]) -> None:
        """Write the values of a step, tag -> value. Raises ArtifactError if the disk is full."""
        from tensorboard.compat.proto.event_pb2 import Event
        from tensorboard.compat.proto.summary_pb2 import Summary

        pairs = [Summary.Value(tag=tag, simple_value=value) for tag, value in values.items()]
        self._write(Event(wall_time=time.time(), step=step, summary=Summary(value=pairs)))

    def close(self) -> None:
        """Close the file."""
        self._stream.close()

    def _write(self, event: object) -> None:
        with write_errors(self._folder):
            self._writer.write(event.SerializeToString())  # type: ignore[attr-defined]
