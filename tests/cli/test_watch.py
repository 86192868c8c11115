"""The watch over the commands (X3) sees what it must see."""

import socket
import subprocess
import sys

import pytest

from elmo_deploy import cli


def plant(monkeypatch, fault):
    """Let `elmo-deploy --version` do something that it must not."""
    monkeypatch.setattr(cli, "app", lambda *words, **options: fault())


@pytest.mark.parametrize(
    "fault",
    [
        lambda: socket.create_connection(("127.0.0.1", 9)),
        lambda: subprocess.run([sys.executable, "-c", ""], check=True),
        lambda: open("/tmp/stray-write-of-a-command", "w"),  # noqa: SIM115
    ],
    ids=["network", "shell", "stray write"],
)
def test_a_planted_fault_is_caught(run, monkeypatch, fault):
    plant(monkeypatch, fault)
    answer = run("--version")
    assert answer.code == 1 and "AssertionError: the command" in answer.stderr
