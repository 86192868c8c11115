"""The files and threads that a system is measured with."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Subject:
    """checkpoint None: torch entries take random weights of the bundle's shape."""

    bundle: Path
    checkpoint: Path | None = None
    threads: int | None = None  # None: the library's own choice
