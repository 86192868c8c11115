"""A model and its oracle, joined only by the published files."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from elmo_deploy.importers.bilm_hdf5 import export_hdf5
from elmo_export.checkpoint import Checkpoint
from oracle import Oracle


@pytest.fixture
def oracle_of(tmp_path) -> Callable[[Checkpoint], Oracle]:
    def make(checkpoint: Checkpoint) -> Oracle:
        export_hdf5(checkpoint, tmp_path / "options.json", tmp_path / "weights.hdf5")
        return Oracle.read(tmp_path / "options.json", tmp_path / "weights.hdf5")

    return make


@pytest.fixture(autouse=True, scope="package")
def one_thread():
    """These models are tiny: threads would only wait for each other."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
