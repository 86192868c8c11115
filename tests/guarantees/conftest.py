"""One tiny bundle for all guarantees; the CI or the long figures; seeds that can be replayed.

ELMO_GUARANTEES=long runs the long figures. ELMO_SEED=n repeats a run: the seed of a failed test is
among its captured output. A test tells what it did by the fixture `kept`, its control what the
planted fault led to by `caught`; guarantee_kit.table makes the table of docs/guarantees.md of both.
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, settings

from elmo_runtime.embedder import Embedder

LONG = os.environ.get("ELMO_GUARANTEES", "") == "long"
FIXED_SEED = 20180214  # in CI every run is the same; the long runs draw anew

settings.register_profile(
    "guarantees",
    deadline=None,  # nothing here is timed
    database=None,
    derandomize=not LONG and "ELMO_SEED" not in os.environ,
    suppress_health_check=list(HealthCheck),
    phases=[Phase.explicit, Phase.generate, Phase.shrink],
)
settings.load_profile("guarantees")


@pytest.fixture(scope="session")
def bundle(tiny_bundle) -> Path:
    """The bundle of a random two-layer ELMo; never written to."""
    return tiny_bundle


@pytest.fixture(scope="session")
def embedder(bundle):
    """It, loaded on the CPU."""
    with Embedder.load(bundle, backend="onnxruntime-cpu") as elmo:
        yield elmo


@pytest.fixture
def cases() -> Callable[[int, int], int]:
    """How many of the CI and the long figure this run does: `cases(530, 10_000)`."""
    return lambda ci, long: long if LONG else ci


@pytest.fixture
def seed() -> int:
    """The seed of this test; printed, so that a failure shows it."""
    drawn = random.SystemRandom().randrange(1 << 32) if LONG else FIXED_SEED
    seed = int(os.environ.get("ELMO_SEED", drawn))
    print(f"replay with ELMO_SEED={seed}")
    return seed


@pytest.fixture
def kept(record_property) -> Callable[[str, str], None]:
    """Tell the figure of a guarantee that was kept: `kept("C2", "200 kills, 0 bytes differ")`."""
    return lambda identity, figure: record_property("guarantee", f"{identity}: {figure}")


@pytest.fixture
def caught(record_property) -> Callable[[str, object], None]:
    """Tell what the test says when its fault is planted: `caught("C2", message)`."""
    return lambda identity, message: record_property("control", f"{identity}: {message}")
