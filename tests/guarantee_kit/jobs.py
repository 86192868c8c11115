"""The work that child processes are killed in: bulk embedding and export, and faults for it."""

from __future__ import annotations

import contextlib
import hashlib
import resource
import signal
from collections.abc import Iterator
from pathlib import Path

from elmo_runtime import Embedder
from elmo_runtime.bulk import BlockLimits, Corpus, embedding_job, find_sources
from elmo_runtime.errors import ArtifactError
from elmo_runtime.options import CpuOptions

LIMITS = BlockLimits(rows=12, tokens=130)


def embed_folder(bundle: Path, corpus: Path, target: Path, fault: str = "") -> dict[str, object]:
    """Embed a corpus into a directory and return the counts of the job."""
    plant(fault)
    with Embedder.load(
        bundle, backend="onnxruntime-cpu", self_check=False, cpu=CpuOptions(threads=1)
    ) as elmo:
        job = embedding_job(
            elmo, target, outputs=("elmo", "default"), limits=LIMITS, on_error="skip", resume=True
        )
        return vars(job.run(Corpus(find_sources([str(corpus)]))))


def export_over(bundle: Path, seed: int, fault: str = "") -> None:
    """Export a random ELMo to a directory that may already hold a bundle."""
    from elmo_deploy.model.reference import reference
    from elmo_export import export as package
    from elmo_export.verify import cases
    from random_models import random_checkpoint, tiny_config

    plant(fault)
    cases.SHAPES = [(5, 7)]  # the tests here do not depend on the size of the parity check
    checkpoint = random_checkpoint(tiny_config(), seed=seed)
    package.export_bundle(checkpoint, bundle, reference=reference(checkpoint))


def plant(fault: str) -> None:
    """Disable the atomic writes of this process."""
    if not fault:
        return
    from elmo_export import export as package
    from elmo_runtime.bulk import job, journal

    if fault == "torn":  # parts and the journal are written in place
        job.atomic_file = journal.atomic_file = _in_place
    elif fault == "in place":  # the bundle is written under its final name
        package.atomic_directory = _directory_in_place


@contextlib.contextmanager
def _in_place(target: Path, **_: object) -> Iterator[Path]:
    target.parent.mkdir(parents=True, exist_ok=True)
    yield target


@contextlib.contextmanager
def _directory_in_place(target: Path, **_: object) -> Iterator[Path]:
    target.mkdir(exist_ok=True)
    yield target


def export_with_room_for(size: int, bundle: Path, seed: int) -> str:
    """Export with a file size limit of `size` bytes; return the text of the error."""
    import elmo_deploy.model.reference  # noqa: F401 - torch writes a file when it is imported

    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
    try:
        export_over(bundle, seed)
    except ArtifactError as error:
        return str(error)
    return ""


def content(folder: Path) -> dict[str, str]:
    """The digest of every file below a directory, by name."""
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }
