"""SIGTERM and SIGHUP clean up; the next run removes the remains of a SIGKILL."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

CLI = [sys.executable, "-W", "ignore", "-c", "from elmo_deploy.cli import main; main()"]


class Embedding:
    """An `elmo-deploy embed` that waits for more input after its first sentences."""

    def __init__(self, bundle: Path, out: Path, *, before: str = "") -> None:
        command = [*CLI, "embed", str(bundle), "-", "-o", str(out)]
        if before:
            command = ["bash", "-c", f'{before}; exec "$@"', "-", *command]
        self.scratch = out.with_name(f".{out.name}.elmo-partial")
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL
        )
        while not (self.scratch / out.name).exists():  # its writer is open
            assert self.process.poll() is None, self.process.communicate()[1].decode()
            time.sleep(0.02)

    def end(self, number: int) -> int:
        """Send a signal; the exit code."""
        self.process.send_signal(number)
        self.process.communicate(timeout=900)
        return self.process.returncode


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGHUP, 129)])
@pytest.mark.parametrize("name", ["out.hdf5", "out.npz"])
def test_a_signal_leaves_no_scratch_file(bundle, tmp_path, number, code, name):
    """SIGTERM and SIGHUP ended the process immediately, and a hidden file remained."""
    assert Embedding(bundle, tmp_path / name).end(number) == code
    assert not list(tmp_path.iterdir())


def test_nohup_survives_a_hangup(bundle, tmp_path):
    embedding = Embedding(bundle, tmp_path / "out.npz", before="trap '' HUP")
    embedding.process.send_signal(signal.SIGHUP)
    embedding.process.communicate(b"the cat\n", timeout=900)
    assert embedding.process.returncode == 0
    assert [path.name for path in tmp_path.iterdir()] == ["out.npz"]


def test_the_next_run_removes_the_remains_of_a_kill(bundle, tmp_path, run):
    embedding = Embedding(bundle, tmp_path / "out.npz")
    assert embedding.end(signal.SIGKILL) == -signal.SIGKILL
    assert embedding.scratch.is_dir()
    answer = run("embed", bundle, "-", "-o", tmp_path / "out.npz", typed=b"the cat\n")
    assert answer.code == 0, answer.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["out.npz"]


def test_a_second_writer_of_a_file_is_rejected(bundle, tmp_path, run):
    """Two runs wrote the same file, both succeeded, and the last one won."""
    embedding = Embedding(bundle, tmp_path / "out.npz")
    answer = run("embed", bundle, "-", "-o", tmp_path / "out.npz", typed=b"the cat\n")
    assert answer.code == 5
    assert f"is being written by process {embedding.process.pid} on " in answer.stderr
    assert embedding.end(signal.SIGTERM) == 143
