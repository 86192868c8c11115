"""One unit of bulk work: a sentence with its id, or the reason why a line gave none."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Record:
    """A sentence to embed. where: file and line, for messages."""

    id: str
    tokens: tuple[str, ...]
    where: str


@dataclass(frozen=True)
class BadRecord:
    """A line that gives no sentence."""

    where: str
    reason: str

    def __str__(self) -> str:
        return f"{self.where}: {self.reason}"
