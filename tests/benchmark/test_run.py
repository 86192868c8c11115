"""Systems take turns, each in its own process; what cannot run is named with its reason."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from elmo_deploy.benchmark.loads import grid_load
from elmo_deploy.benchmark.run import Job, Settings, benchmark, turns
from elmo_deploy.benchmark.subject import Subject
from elmo_deploy.benchmark.system_process import SystemProcess
from elmo_runtime.errors import BackendError, BackendUnavailableError

LOAD = grid_load(1, 2, [("a", "b")])


def test_every_system_meets_every_load_in_every_round():
    order = list(turns(2, 2, ["a", "b"]))
    assert order == [
        *(("a", 0), ("b", 0), ("a", 1), ("b", 1)),
        *(("b", 0), ("a", 0), ("b", 1), ("a", 1)),
    ]


def test_a_row_for_every_system_and_load(report):
    assert [(row.entry, row.load) for row in report.rows] == [
        ("cpu-padded", "2 x 3"),
        ("cpu-packed", "2 x 3"),
        ("cpu-padded", "ragged 2 x 2"),
        ("cpu-packed", "ragged 2 x 2"),
    ]


def test_every_round_and_every_call_is_kept(report):
    row = report.row("cpu-packed", "ragged 2 x 2")
    assert (len(row.rounds), len(row.calls)) == (6, 12)


def test_a_system_that_cannot_run_is_left_out_with_the_reason(report):
    assert "holds fp32, not int8" in report.left_out["cpu-int8"]


def test_the_baseline_has_no_ratio_and_the_others_have_one(report):
    assert report.row("cpu-padded", "2 x 3").ratio is None
    assert report.row("cpu-packed", "2 x 3").ratio is not None


def test_memory_is_of_the_systems_own_process(report):
    for entry in report.entries:
        assert 10e6 < entry.footprint.loaded_bytes <= entry.footprint.peak_bytes < 1e9
        assert entry.footprint.load_seconds < entry.footprint.first_vector_seconds


def test_nothing_to_measure_is_an_error(tmp_path):
    jobs = [Job("cpu-padded", "cpu-padded", Subject(tmp_path / "absent"))]
    with pytest.raises(BackendUnavailableError, match="is not a bundle directory"):
        benchmark(jobs, [LOAD], settings=Settings(rounds=1, minimum=0, patience=0))


def test_a_baseline_that_is_not_measured_is_an_error(tiny_bundle: Path):
    jobs = [Job("cpu-padded", "cpu-padded", Subject(tiny_bundle, threads=1))]
    with pytest.raises(BackendUnavailableError, match="torch-lstm"):
        benchmark(
            jobs,
            [LOAD],
            settings=Settings(rounds=1, minimum=0, patience=0),
            baseline="torch-lstm",
        )


BENCHMARK_WITHOUT_GUARD = """
import sys
from pathlib import Path
from elmo_deploy.benchmark.loads import grid_load
from elmo_deploy.benchmark.run import Job, Settings, benchmark
from elmo_deploy.benchmark.subject import Subject
from elmo_runtime.errors import BackendUnavailableError
try:
    benchmark(
        [Job("cpu-packed", "cpu-packed", Subject(Path(sys.argv[1])))],
        [grid_load(1, 2, [("a", "b")])],
        settings=Settings(rounds=1, minimum=0, patience=0),
    )
except BackendUnavailableError as error:
    print(error)
"""


def test_a_system_that_dies_at_its_start_ends_the_run_with_its_error(tmp_path, tiny_bundle):
    """The parent waited without end for a process that could not import the main program."""
    program = tmp_path / "program.py"
    program.write_text(BENCHMARK_WITHOUT_GUARD.replace("import sys", "import sys, only_here", 1))
    (tmp_path / "only_here.py").touch()
    remove = "import pathlib; pathlib.Path(__file__).unlink()"  # so that the child lacks it
    (tmp_path / "only_here.py").write_text(remove)
    done = subprocess.run(
        [sys.executable, "-B", str(program), str(tiny_bundle)],
        capture_output=True,
        text=True,
        timeout=900,
        env={**os.environ, "PYTHONPATH": ":".join(sys.path)},
    )
    assert "the process died with exit code 1: ModuleNotFoundError" in done.stdout


def test_a_system_that_is_killed_ends_the_run(tiny_bundle):
    process = SystemProcess("cpu-packed", Subject(tiny_bundle), [LOAD])
    try:
        process._process.kill()
        with pytest.raises(BackendError, match="died with exit code -9"):
            process.start()
    finally:
        process.close()
