"""Negative control of X3: the audit hook rejects network, programs and unexpected writes."""

import socket
import subprocess
import sys

import pytest

from elmo_deploy import cli


def plant(monkeypatch, fault):
    """Let `elmo-deploy --version` do something forbidden."""
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
def test_an_injected_fault_is_rejected(run, monkeypatch, fault):
    plant(monkeypatch, fault)
    answer = run("--version")
    assert answer.code == 1 and "AssertionError: the command" in answer.stderr
