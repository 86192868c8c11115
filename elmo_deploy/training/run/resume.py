"""The state of a training run on disk: written atomically, restored bit-identically.

`RUN/resume/step-00001000/` holds state.safetensors (weights, optimizer slots, carried LSTM states)
and state.json (counters, positions in the text, digests). The last two states are kept.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from elmo_runtime.errors import CheckpointError
from elmo_runtime.files.atomic import atomic_directory, sha256_of
from elmo_runtime.files.replacing import Format
from elmo_runtime.files.scratch import remove_abandoned

FOLDER, TENSORS, COUNTERS = "resume", "state.safetensors", "state.json"
KEPT = 2
STATE_FORMAT = Format(
    name="saved state",
    owned=lambda folder: (TENSORS, COUNTERS),
    reserved=(TENSORS, COUNTERS),
    last=(COUNTERS,),
)
_NAME = re.compile(r"step-\d{8,}")

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class SavedState:
    """Everything that the remainder of a run depends on."""

    tensors: Mapping[str, Tensor]
    counters: Mapping[str, Any]  # plain JSON


def save_state(run: Path, step: int, saved: SavedState) -> None:
    """Write the state of a step and remove all but the last two; only one process writes."""
    folder = run / FOLDER / f"step-{step:08d}"
    with atomic_directory(folder, kind=STATE_FORMAT) as scratch:
        tensors = {name: tensor.contiguous() for name, tensor in saved.tensors.items()}
        save_file(tensors, scratch / TENSORS)
        content = {
            "tensors sha256": sha256_of(scratch / TENSORS),
            "counters sha256": _digest(saved.counters),
            "counters": dict(saved.counters),
        }
        (scratch / COUNTERS).write_text(json.dumps(content, ensure_ascii=False), "utf-8")
    remove_abandoned(run / FOLDER)
    for old in saved_folders(run)[:-KEPT]:
        _remove(old)


def _remove(folder: Path) -> None:
    """Remove a saved state; its directory stays if it contains other files."""
    for name in (COUNTERS, TENSORS):
        (folder / name).unlink(missing_ok=True)
    with contextlib.suppress(OSError):
        folder.rmdir()


def load_latest(run: Path, *, device: torch.device) -> SavedState | None:
    """The newest state that is not corrupt; None without a saved state.

    A corrupt state is logged and skipped. Raises CheckpointError if every saved state is corrupt.
    """
    folders = saved_folders(run)
    for folder in reversed(folders):
        try:
            return _load(folder, device)
        except CheckpointError as error:
            logger.warning("%s; it is skipped", error)
    if folders:
        raise CheckpointError(
            f"every state in {run / FOLDER} is corrupt", hint="start again in another directory"
        )
    return None


def saved_folders(run: Path) -> list[Path]:
    """The saved states of a run, oldest first."""
    return sorted(path for path in (run / FOLDER).glob("step-*") if _NAME.fullmatch(path.name))


def _load(folder: Path, device: torch.device) -> SavedState:
    try:
        content = json.loads((folder / COUNTERS).read_bytes())
        counters = content["counters"]
        intact = (
            content["counters sha256"] == _digest(counters)
            and content["tensors sha256"] == sha256_of(folder / TENSORS)
        )  # fmt: skip
        if not intact:
            raise CheckpointError(f"{folder} is corrupt: a digest differs")
        return SavedState(load_file(folder / TENSORS, device=str(device)), counters)
    except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
        raise CheckpointError(f"{folder} is corrupt: {error}") from error


def _digest(counters: Mapping[str, Any]) -> str:
    text = json.dumps(counters, sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
