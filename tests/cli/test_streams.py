"""The command line in its own process, with unusual standard streams."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from elmo_runtime.processors import usable_cpus

COMMAND = [sys.executable, "-c", "from elmo_deploy.cli import main; main()"]
ENVIRONMENT = {**os.environ, "PYTHONPATH": ":".join(sys.path)}


def shell(words, redirection, **environment):
    """Run the command in a shell, with a redirection of its streams."""
    program = f'"$@" {redirection}'
    return subprocess.run(
        ["bash", "-o", "pipefail", "-c", program, "bash", *COMMAND, *map(str, words)],
        capture_output=True,
        text=True,
        env={**ENVIRONMENT, **environment},
    )


@pytest.mark.parametrize("redirection", [">&-", "2>&-", "<&-", "<&- >&- 2>&-"])
@pytest.mark.parametrize("words", [["doctor"], ["doctor", "--json"], ["inspect"]])
def test_closed_streams_are_no_error(bundle, words, redirection):
    """A closed stdout or stderr ended every command with AttributeError: 'NoneType' ... isatty."""
    words = [*words, bundle] if words == ["inspect"] else words
    done = shell(words, redirection)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr


def test_a_failure_without_stderr_keeps_its_exit_code(tmp_path):
    assert shell(["inspect", tmp_path / "nothing"], "2>&-").returncode == 5


@pytest.mark.parametrize("words", [["inspect", "{}"], ["inspect", "{}", "--json"], ["doctor"]])
def test_a_closed_pipe_exits_with_0(bundle, words):
    """`elmo-deploy inspect BUNDLE | head -1` exited with 1 when the reader left before the end."""
    done = shell([word.format(bundle) for word in words], "| true")
    assert (done.returncode, done.stderr) == (0, "")


def test_a_closed_stderr_does_not_end_the_command(bundle, tmp_path):
    """An unread message ended `embed` before its file was written."""
    sentences, vectors = tmp_path / "lines.txt", tmp_path / "vectors.npz"
    sentences.write_text("a b\n" * 3, "utf-8")
    threads = usable_cpus() + 1  # This warns.
    words = ["embed", bundle, sentences, "-o", vectors, "--threads", threads]
    done = shell(words, "2>&1 | true")
    assert done.returncode == 0, done.stdout
    assert vectors.exists()


def test_a_stream_that_is_not_utf8_prints_every_name(bundle, tmp_path):
    """A path with an accent ended the command with UnicodeEncodeError in an ASCII terminal."""
    odd = tmp_path / "modèle-词"
    odd.symlink_to(bundle)
    ascii_only = {"PYTHONIOENCODING": "ascii:strict"}
    assert "mod" in shell(["inspect", odd], "", **ascii_only).stdout
    answer = shell(["inspect", odd, "--json"], "", **ascii_only)
    assert json.loads(answer.stdout), answer.stderr
    missing = shell(["inspect", f"{odd}-nothing"], "", **ascii_only)
    assert missing.returncode == 5 and "UnicodeEncodeError" not in missing.stderr


def test_a_name_that_is_not_utf8_is_printed(tmp_path):
    """A file name of other bytes ended the command with UnicodeEncodeError: surrogates."""
    done = shell(["inspect", os.fsdecode(os.fsencode(tmp_path) + b"/\xff")], "")
    assert done.returncode == 5 and "surrogates" not in done.stderr
