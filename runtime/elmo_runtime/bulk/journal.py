"""The directory that a bulk job writes: its parts, their settings and a journal of done parts.

    vectors/part-00000.parquet           the vectors of block 0
    vectors.job/_job.json                what determines the bytes: bundle, outputs, dtype, limits
    vectors.job/_journal/part-00000.json written after its part: the digests of its input and of it

The directory of the parts contains nothing else, because some readers of Parquet directories
(polars, datasets) read every file in it. If no directory can be created next to it, as next to a
mount point, and in directories of version 0.1, the other files are inside it. Each file is written
atomically and contains neither time nor host: a run that was killed and resumed, or split over many
machines, leaves the same bytes as one that was not. A part without its journal entry is written
again.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from elmo_runtime.errors import ArtifactError, InputError
from elmo_runtime.files.atomic import atomic_file, check_file
from elmo_runtime.files.scratch import remove_abandoned

JOB, JOURNAL = "_job.json", "_journal"
BESIDE = ".job"  # added to the name of the directory of the parts
WAIT_FOR_WORKERS = 30.0  # seconds; workers that start together write the same job file


@dataclass(frozen=True, kw_only=True)
class PartRecord:
    """The journal entry of a finished part."""

    input_sha256: str
    part_bytes: int
    part_sha256: str
    sentences: int
    tokens: int
    skipped: tuple[str, ...]  # one line each: file, line number, reason


def check_folder(path: Path) -> None:
    """Raise ArtifactError unless parts can be written there; call it before loading the model."""
    check_file(path / JOB, wait=WAIT_FOR_WORKERS)


class Folder:
    """The output directory of a job whose settings are the same for every worker."""

    def __init__(self, path: Path, settings: Mapping[str, Any]) -> None:
        """Create it, or check that it was begun with these settings; InputError if not.

        Removes the incomplete files of killed workers.
        """
        self.path = Path(os.path.realpath(path))
        self._home = _home(self.path)
        job = self._home / JOB
        if not job.exists():
            self._refuse_foreign_parts()
            _write_json(job, settings, wait=WAIT_FOR_WORKERS)
        for folder in {self.path, self._home, self._home / JOURNAL}:
            remove_abandoned(folder)
        _refuse_other_settings(path, _read_json(job), _plain(settings))

    def part(self, block: int) -> Path:
        """The file for the vectors of a block."""
        return self.path / f"part-{block:05d}.parquet"

    def finished(self, block: int, input_sha256: str) -> PartRecord | None:
        """The entry of a complete part; None if the part must be written.

        Raises InputError if the part was made from other input.
        """
        try:
            content = _read_json(self._entry(block))
            entry = PartRecord(**{**content, "skipped": tuple(content["skipped"])})
            size = self.part(block).stat().st_size
        except (FileNotFoundError, ArtifactError, KeyError, TypeError):
            return None  # missing or damaged: the part is written again
        if size != entry.part_bytes:
            return None
        if entry.input_sha256 != input_sha256:
            raise InputError(
                f"the input of {self.part(block)} has changed since it was written",
                hint="resume with the same input, or write to another directory",
            )
        return entry

    def begun(self, block: int) -> bool:
        """Whether a file of this block exists."""
        return self.part(block).exists() or self._entry(block).exists()

    def enter(self, block: int, entry: PartRecord) -> None:
        """Record that the part is complete."""
        _write_json(self._entry(block), asdict(entry))

    def _entry(self, block: int) -> Path:
        return self._home / JOURNAL / f"part-{block:05d}.json"

    def _refuse_foreign_parts(self) -> None:
        """Parquet data sets of other programs often have parts with the same names."""
        parts = sorted(path.name for path in self.path.glob("part-*.parquet"))
        if parts:
            raise InputError(
                f"{self.path} holds {parts[0]}, but {self._home / JOB} does not exist:"
                " another program wrote it, or it was moved without that directory",
                hint=f"move {self._home.name} as well, or write to another directory",
            )


def _home(parts: Path) -> Path:
    """The directory of the job file and the journal for a directory of parts."""
    beside = parts.with_name(parts.name + BESIDE)
    if (parts / JOB).exists():
        return parts
    if (beside / JOB).exists() or beside.is_dir():
        return beside
    nearest = next(folder for folder in parts.parents if folder.exists())
    can_be_made = parts.name and not os.path.ismount(parts) and os.access(nearest, os.W_OK)
    return beside if can_be_made else parts


def _write_json(path: Path, content: Mapping[str, Any], *, wait: float = 0.0) -> None:
    with atomic_file(path, wait=wait) as scratch:
        scratch.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", "utf-8")


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content: dict[str, Any] = json.loads(path.read_bytes())
        return dict(content)
    except (ValueError, TypeError) as error:
        raise ArtifactError(
            f"{path} is not a file that a bulk job wrote: {error}",
            hint="remove the directory, or write to another one",
        ) from error


def _plain(settings: Mapping[str, Any]) -> dict[str, Any]:
    return dict(json.loads(json.dumps(settings)))


def _refuse_other_settings(folder: Path, old: dict[str, Any], new: dict[str, Any]) -> None:
    for key in sorted({*old, *new}):
        if old.get(key) != new.get(key):
            raise InputError(
                f"{folder} was begun with {key} {old.get(key)!r}, now it is {new.get(key)!r}",
                hint="resume with the same settings, or write to another directory",
            )
