"""One tiny bundle for all guarantees, the size of the run, and seeds that can be replayed.

ELMO_GUARANTEES=long runs the long figures. ELMO_SEED=n repeats a run; the captured output of a
failed test contains its seed. The fixture `kept` reports the figure of a test, and `caught` reports
what its control found. guarantee_kit.table writes both into the table of docs/guarantees.md.
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
FIXED_SEED = 20180214  # every CI run is the same; a long run draws another seed

settings.register_profile(
    "guarantees",
    deadline=None,  # no test here is timed
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
    """The tiny bundle, loaded on the CPU."""
    with Embedder.load(bundle, backend="onnxruntime-cpu") as elmo:
        yield elmo


@pytest.fixture
def cases() -> Callable[[int, int], int]:
    """The number of cases of this run, CI or long: `cases(530, 10_000)`."""
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
    """Report the figure of a guarantee: `kept("C2", "200 kills, 0 bytes differ")`."""
    return lambda identity, figure: record_property("guarantee", f"{identity}: {figure}")


@pytest.fixture
def caught(record_property) -> Callable[[str, object], None]:
    """Report what the test says about the injected fault: `caught("C2", message)`."""
    return lambda identity, message: record_property("control", f"{identity}: {message}")
