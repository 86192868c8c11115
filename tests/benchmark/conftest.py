"""A report to draw and write, measured on the tiny bundle."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from elmo_deploy.benchmark.loads import drawn_sentences, grid_load, ragged_load
from elmo_deploy.benchmark.report.results import Report
from elmo_deploy.benchmark.run import Job, Settings, benchmark
from elmo_deploy.benchmark.subject import Subject


@pytest.fixture(scope="session")
def report(tiny_bundle: Path) -> Report:
    """Both forms on the CPU, and a system that this bundle has no graphs for."""
    sentences = drawn_sentences(8, np.random.default_rng(0))
    return benchmark(
        [
            Job(name, name, Subject(tiny_bundle, threads=1))
            for name in ("cpu-padded", "cpu-packed", "cpu-int8")
        ],
        [grid_load(2, 3, sentences), ragged_load(2, sentences, n_calls=2)],
        settings=Settings(rounds=6, minimum=0.0, patience=0.0),
    )
