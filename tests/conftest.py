"""Fixtures that several folders of tests use."""

from __future__ import annotations

from pathlib import Path

import pytest

from elmo_export.checkpoint import Checkpoint
from random_models import random_checkpoint, tiny_config

SHARED_DATA = Path(__file__).parents[2] / "shared" / "data"


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Real texts and the original authors' golden files, kept beside the checkout."""
    if not SHARED_DATA.is_dir():
        pytest.skip(f"{SHARED_DATA} is absent: the golden files do not travel with the repository")
    return SHARED_DATA


@pytest.fixture(scope="session")
def tiny_checkpoint() -> Checkpoint:
    """A random two-layer ELMo with skip connections."""
    return random_checkpoint(tiny_config())
