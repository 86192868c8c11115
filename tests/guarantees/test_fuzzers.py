"""Fuzzers: no file of a bundle and no line of text breaks the readers."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("atheris", reason="atheris supports only Linux")

pytestmark = pytest.mark.slow
FUZZ = Path(__file__).parents[2] / "fuzz"


def fuzz(program: Path, folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """Run a fuzzer in a directory where it stores an input that failed."""
    command = [sys.executable, str(program), *options]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True)


@pytest.mark.parametrize("name", ["fuzz_bundle.py", "fuzz_importers.py", "fuzz_text.py"])
def test_a_fuzzer_finds_nothing(name, cases, tmp_path):
    done = fuzz(FUZZ / name, tmp_path, f"-max_total_time={cases(60, 3600)}")
    assert done.returncode == 0, done.stderr[-3000:]
    assert not list(tmp_path.iterdir())


def test_control_a_wrong_mapper_is_found(tmp_path):
    program = (FUZZ / "fuzz_text.py").read_text("utf-8")
    fault = "character_ids(token)[::-1]"
    assert "character_ids(token)" in program
    program = program.replace("character_ids(token)", fault)
    program = program.replace("Path(__file__).parents[1]", f"Path({str(FUZZ.parent)!r})")
    (tmp_path / "faulty.py").write_text(program, "utf-8")
    done = fuzz(tmp_path / "faulty.py", tmp_path, "-max_total_time=60")
    assert done.returncode != 0
    assert "AssertionError" in done.stdout + done.stderr
    assert list(tmp_path.glob("crash-*"))
