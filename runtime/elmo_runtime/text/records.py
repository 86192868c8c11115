"""One sentence of an input with its id, or the reason why there is none."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Record:
    """A sentence. where: file and line, for messages."""

    id: str
    tokens: tuple[str, ...]
    where: str
    name: str | None = field(default=None, compare=False)

    @property
    def key(self) -> str:
        """What a user looks the sentence up by: its text as the file has it, or the file's id."""
        return " ".join(self.tokens) if self.name is None else self.name


@dataclass(frozen=True)
class BadRecord:
    """A place in an input that should hold a sentence and does not."""

    where: str
    reason: str

    def __str__(self) -> str:
        return f"{self.where}: {self.reason}"
