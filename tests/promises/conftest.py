"""One tiny bundle for all promises; the CI or the long figures; seeds that can be replayed.

ELMO_PROMISES=long runs the long figures. ELMO_SEED=n repeats a run: the seed of a failed test is
among its captured output. A test tells what it did by the fixture `kept`, its control what the
planted fault led to by `caught`; promise_kit.table makes the README's table of both.
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, settings

from elmo_deploy.model.reference import reference
from elmo_export.package import export_bundle
from elmo_runtime.embedder import Embedder

LONG = os.environ.get("ELMO_PROMISES", "") == "long"
FIXED_SEED = 20180214  # in CI every run is the same; the long runs draw anew

settings.register_profile(
    "promises",
    deadline=None,  # nothing here is timed
    database=None,
    derandomize=not LONG and "ELMO_SEED" not in os.environ,
    suppress_health_check=list(HealthCheck),
    phases=[Phase.explicit, Phase.generate, Phase.shrink],
)
settings.load_profile("promises")


@pytest.fixture(scope="session")
def bundle(tiny_checkpoint, tmp_path_factory) -> Path:
    """The bundle of a random two-layer ELMo; never written to."""
    folder = tmp_path_factory.mktemp("promises") / "bundle"
    export_bundle(tiny_checkpoint, folder, reference=reference(tiny_checkpoint))
    return folder


@pytest.fixture(scope="session")
def embedder(bundle):
    """It, loaded on the CPU."""
    with Embedder.load(bundle, backend="onnxruntime-cpu") as elmo:
        yield elmo


@pytest.fixture
def cases() -> Callable[[int, int], int]:
    """cases(ci, long): how many this run does."""
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
    """kept("C2", "200 kills, 0 differing bytes"): the figure of a promise that was kept."""
    return lambda identity, figure: record_property("promise", f"{identity}: {figure}")


@pytest.fixture
def caught(record_property) -> Callable[[str, object], None]:
    """caught("C2", message): what the test says when its fault is planted."""
    return lambda identity, message: record_property("control", f"{identity}: {message}")
