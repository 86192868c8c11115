"""The files and threads of a measurement."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Subject:
    """Without a checkpoint, torch systems use random weights of the bundle's shape."""

    bundle: Path
    checkpoint: Path | None = None
    threads: int | None = None  # None: the library's own choice
