"""TensorBoard reads a run, and a resumed run without the steps that it repeats."""

from __future__ import annotations

import time

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from elmo_deploy.training.run.scalars import ScalarFile


def test_tensorboard_reads_a_resumed_run_as_one(tmp_path, monkeypatch):
    for first_step, now in ((1, 1e9), (4, 2e9)):
        monkeypatch.setattr(time, "time", lambda now=now: now)  # the name of the file
        file = ScalarFile(tmp_path, first_step=first_step)
        for step in range(first_step, 6):
            file.add(step, {"train/loss": first_step / 2})
        file.close()
    events = EventAccumulator(str(tmp_path))
    events.Reload()
    found = [(scalar.step, scalar.value) for scalar in events.Scalars("train/loss")]
    assert found == [(1, 0.5), (2, 0.5), (3, 0.5), (4, 2.0), (5, 2.0)]
