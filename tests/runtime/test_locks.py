"""Two writers of one target exclude each other; the lock of an ended process is taken over."""

from __future__ import annotations

import errno
import json
import os
import socket
import subprocess
import sys
import threading

import pytest

from elmo_runtime.errors import ArtifactError, InputError
from elmo_runtime.files import locks
from elmo_runtime.files.atomic import atomic_directory, atomic_file, check_file, refuse_inputs
from elmo_runtime.files.locks import locked
from elmo_runtime.files.replacing import Format
from elmo_runtime.files.scratch import clear, remove_abandoned, scratch_beside


def test_a_second_writer_of_a_file_gets_an_error_that_names_the_first(tmp_path):
    """Two runs in one directory mixed their states."""
    pattern = f"is being written by process {os.getpid()} on {socket.gethostname()}"
    with (
        atomic_file(tmp_path / "x") as scratch,
        pytest.raises(ArtifactError, match=pattern),
        atomic_file(tmp_path / "x"),
    ):
        pass
    assert not scratch.exists()


def test_a_second_writer_of_a_directory_is_refused(tmp_path):
    kind = Format(name="thing")
    with (
        atomic_directory(tmp_path / "x", kind=kind),
        pytest.raises(ArtifactError, match="is being written"),
        atomic_directory(tmp_path / "x", kind=kind),
    ):
        pass


def test_writers_of_the_same_small_file_wait_for_each_other(tmp_path):
    """The workers of a bulk job all write its job file first."""

    def write(number: int) -> None:
        for _ in range(20):
            with atomic_file(tmp_path / "job.json", wait=30) as scratch:
                scratch.write_text(str(number))
            done.append(number)

    done: list[int] = []
    threads = [threading.Thread(target=write, args=[number]) for number in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(done) == 60
    assert [path.name for path in tmp_path.iterdir()] == ["job.json"]


def test_a_lock_file_that_appears_while_the_directory_is_checked_is_accepted(tmp_path, monkeypatch):
    """Another writer made it between two looks, and its directory was taken for a foreign one."""
    place = scratch_beside(tmp_path / "x")
    place.mkdir()
    (place / "x").touch()
    monkeypatch.setattr(
        "elmo_runtime.files.scratch.time.sleep", lambda _: (place / "owner").touch()
    )
    with atomic_file(tmp_path / "x") as scratch:
        scratch.write_text("text")
    assert (tmp_path / "x").read_text() == "text"


def test_the_lock_of_a_killed_process_is_taken_over_with_what_it_left(tmp_path):
    code = f"""
import os
from pathlib import Path
from elmo_runtime.files.atomic import atomic_file
with atomic_file(Path({str(tmp_path / "x")!r})) as scratch:
    scratch.write_text("half")
    os._exit(1)
"""
    subprocess.run([sys.executable, "-c", code], check=False)
    assert (scratch_beside(tmp_path / "x") / "x").read_text() == "half"
    with atomic_file(tmp_path / "x") as scratch:
        scratch.write_text("whole")
    assert [path.name for path in tmp_path.iterdir()] == ["x"]


def without_flock(monkeypatch):
    def refuse(handle, how):
        raise OSError(errno.EOPNOTSUPP, "Operation not supported")

    monkeypatch.setattr(locks.fcntl, "flock", refuse)


@pytest.mark.parametrize(
    ("pid", "host", "taken"),
    [
        (os.getpid(), socket.gethostname(), False),
        (2**22 + 1, socket.gethostname(), True),  # beyond the kernel's largest process id
        (2**22 + 1, "another-host", False),
    ],
    ids=["alive", "dead", "another host"],
)
def test_without_flock_the_process_in_the_file_decides(tmp_path, monkeypatch, pid, host, taken):
    without_flock(monkeypatch)
    path = tmp_path / "lock"
    path.write_text(json.dumps({"pid": pid, "host": host}))
    if taken:
        with locked(path, target=tmp_path):
            assert json.loads(path.read_text())["pid"] == os.getpid()
        return
    with (
        pytest.raises(ArtifactError, match=f"process {pid} on {host}.*remove {path}"),
        locked(path, target=tmp_path),
    ):
        pass


def test_a_sweep_leaves_what_is_in_use(tmp_path):
    with atomic_file(tmp_path / "x") as scratch:
        scratch.write_text("text")
        remove_abandoned(tmp_path)
    assert (tmp_path / "x").read_text() == "text"


def test_a_directory_of_someone_else_is_never_cleared(tmp_path):
    """A link with the name of a scratch directory must not lead a cleanup elsewhere."""
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").touch()
    scratch_beside(tmp_path / "x").symlink_to(tmp_path / "mine")
    with pytest.raises(ArtifactError, match="is not a scratch directory"):
        check_file(tmp_path / "x")
    remove_abandoned(tmp_path)
    assert (tmp_path / "mine" / "thesis.txt").exists()


def test_a_cleanup_follows_no_link(tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").touch()
    (tmp_path / "scratch").mkdir()
    (tmp_path / "scratch" / "link").symlink_to(tmp_path / "mine")
    clear(tmp_path / "scratch")
    assert (tmp_path / "mine" / "thesis.txt").exists()


def test_an_input_is_not_overwritten(tmp_path):
    """`vocabulary corpus.txt -o corpus.txt` replaced the corpus by its vocabulary."""
    (tmp_path / "corpus.txt").touch()
    (tmp_path / "link").symlink_to(tmp_path / "corpus.txt")
    refuse_inputs(tmp_path / "vocab.txt", [tmp_path / "corpus.txt", None])
    with pytest.raises(InputError, match="is also an input"):
        refuse_inputs(tmp_path / "link", [tmp_path / "corpus.txt"])


def test_a_name_of_255_bytes_can_be_written(tmp_path):
    """The name of the scratch file was longer than the name of the file, and beyond the limit."""
    name = "é" * 127
    with atomic_file(tmp_path / name) as scratch:
        scratch.write_text("text")
    assert [path.name for path in tmp_path.iterdir()] == [name]
