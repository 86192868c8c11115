"""The published pair of files of a tiny model."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import pytest

from elmo_deploy.importers.bilm_hdf5 import export_hdf5


class Published(NamedTuple):
    options: Path
    weights: Path


@pytest.fixture
def published(tiny_checkpoint, tmp_path) -> Published:
    files = Published(tmp_path / "options.json", tmp_path / "weights.hdf5")
    export_hdf5(tiny_checkpoint, *files)
    return files
