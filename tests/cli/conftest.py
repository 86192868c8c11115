"""The real command line in this process: no network, no shell, no unexpected writes.

X3: a command without a URL opens no socket, starts no program and writes only to its outputs.
Python's audit events report each attempt; the attempt fails, and so does the test.
"""

from __future__ import annotations

import io
import os
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from elmo_deploy.cli import main
from random_models import random_checkpoint, tiny_config

# When NVIDIA's cuda.pathfinder is imported, it asks the system linker for libdl.
HARMLESS = ["/sbin/ldconfig", "-p"]
FORBIDDEN = ("socket.connect", "socket.getaddrinfo", "subprocess.", "os.system", "os.exec")
allowed_folder: Path | None = None  # The only directory that a running command may write to.


def watch(event: str, arguments: tuple[Any, ...]) -> None:
    """Reject every action that no command may take."""
    if allowed_folder is None or (event == "subprocess.Popen" and arguments[1] == HARMLESS):
        return
    if event.startswith(FORBIDDEN):
        raise AssertionError(f"the command did {event}{arguments}")
    if event == "open" and _is_stray_write(arguments[0], arguments[2]):
        raise AssertionError(f"the command wrote to {arguments[0]}")


def _is_stray_write(path: object, flags: int) -> bool:
    if not isinstance(path, str) or not flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
        return False
    expected = (
        f"{os.path.abspath(path)}/".startswith((f"{allowed_folder}/", "/dev/"))
        or "__pycache__" in path
    )
    return not expected


sys.addaudithook(watch)


@dataclass(frozen=True)
class Answer:
    """Exit code and output of a command."""

    code: int
    stdout: str
    stderr: str


Run = Callable[..., Answer]


@pytest.fixture
def run(capsys, monkeypatch, tmp_path) -> Run:
    """Run `elmo-deploy WORDS...`; `typed` is its stdin."""

    def run(*words: object, typed: bytes = b"") -> Answer:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(typed), "utf-8"))
        monkeypatch.setitem(globals(), "allowed_folder", tmp_path)
        monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
        capsys.readouterr()
        with pytest.raises(SystemExit) as left:
            main([str(word) for word in words])
        monkeypatch.setitem(globals(), "allowed_folder", None)
        out = capsys.readouterr()
        return Answer(int(left.value.code or 0), out.out, out.err)

    return run


@pytest.fixture(scope="session")
def model(tiny_checkpoint, tmp_path_factory) -> Path:
    """A checkpoint directory of 12,208 random weights."""
    folder = tmp_path_factory.mktemp("model") / "checkpoint"
    tiny_checkpoint.write(folder)
    return folder


@pytest.fixture(scope="session")
def other_model(tmp_path_factory) -> Path:
    """A checkpoint of the same size with other weights."""
    folder = tmp_path_factory.mktemp("model") / "other"
    random_checkpoint(tiny_config(), seed=1).write(folder)
    return folder


@pytest.fixture(scope="session")
def bundle(tiny_bundle) -> Path:
    """The bundle of `model`."""
    return tiny_bundle
