"""A user's script passes mypy --strict and pyright, without Any in the place of a result."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
REPOSITORY = HERE.parents[1]
PACKAGES = [str(REPOSITORY / "runtime"), str(REPOSITORY / "export"), str(REPOSITORY)]
COMMANDS = {
    "mypy": ["--strict", "--config-file=", "--python-executable", sys.executable],
    "pyright": ["--pythonpath", sys.executable],
}


@pytest.fixture(params=COMMANDS)
def check(request, tmp_path):
    """A function that checks a script of this directory and returns the output and exit code."""
    name = request.param
    if importlib.util.find_spec(name) is None:
        pytest.skip(f"{name} is not installed")

    def check(script: str) -> tuple[str, int]:
        path = tmp_path / script
        path.write_text((HERE / script).read_text("utf-8"), "utf-8")
        done = subprocess.run(
            [sys.executable, "-m", name, *COMMANDS[name], path],
            capture_output=True,
            text=True,
            cwd=tmp_path,
            env={**os.environ, "MYPYPATH": os.pathsep.join(PACKAGES)},
        )
        return done.stdout + done.stderr, done.returncode

    if name == "pyright":  # it has no option for search paths
        (tmp_path / "pyrightconfig.json").write_text(
            '{"typeCheckingMode": "strict", "extraPaths": ["' + '", "'.join(PACKAGES) + '"]}'
        )
    return check


def test_a_users_script_is_fully_typed(check):
    """Results were Any, so that no type checker found a misspelled attribute."""
    output, code = check("user_script.py")
    assert code == 0, output


def test_errors_in_a_users_script_are_found(check):
    """Negative control: every wrong line is reported."""
    output, code = check("wrong_script.py")
    assert code == 1
    missing = [line for line in (5, 6, 8, 9, 10) if f"wrong_script.py:{line}:" not in output]
    assert not missing, output
