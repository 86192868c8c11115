"""Fixtures that several folders of tests use."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from elmo_export.checkpoint import Checkpoint
from guarantee_kit.children import PRELOADED
from random_models import random_checkpoint, tiny_config

# A process has one fork server. Whichever test starts it, the guarantees need these modules.
multiprocessing.set_forkserver_preload(PRELOADED)

SHARED_DATA = Path(__file__).parents[2] / "shared" / "data"


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Real texts and the original authors' golden files, next to the checkout."""
    if not SHARED_DATA.is_dir():
        pytest.skip(
            f"{SHARED_DATA} does not exist: the repository does not contain the golden files"
        )
    return SHARED_DATA


@pytest.fixture(scope="session")
def tiny_checkpoint() -> Checkpoint:
    """A random two-layer ELMo with skip connections."""
    return random_checkpoint(tiny_config())


@pytest.fixture(scope="session")
def tiny_bundle(tiny_checkpoint: Checkpoint, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its bundle with both forms of the graphs in fp32. No test writes to it."""
    from elmo_deploy.model.reference import reference
    from elmo_export.export import export_bundle

    folder = tmp_path_factory.mktemp("tiny") / "bundle"
    # Without native weights, "auto" selects ONNX Runtime on every machine.
    export_bundle(
        tiny_checkpoint,
        folder,
        reference=reference(tiny_checkpoint),
        forms=("padded", "packed"),
    )
    return folder


@pytest.fixture
def oracle_of(tmp_path: Path) -> Callable[[Checkpoint], object]:
    """Checkpoint -> the independent numpy ELMo, which reads only the published files."""
    from elmo_deploy.importers.bilm_hdf5 import export_hdf5
    from oracle import Oracle

    def make(checkpoint: Checkpoint) -> Oracle:
        options, weights = tmp_path / "oracle.json", tmp_path / "oracle.hdf5"
        export_hdf5(checkpoint, options, weights)
        return Oracle.read(options, weights)

    return make


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """PyTorch on one thread, because the threads of a tiny model only wait for each other."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
