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
        """The key by which a user finds the sentence: its text in the file, or its id."""
        return " ".join(self.tokens) if self.name is None else self.name


@dataclass(frozen=True)
class BadRecord:
    """A position in an input that should contain a sentence and does not."""

    where: str
    reason: str

    def __str__(self) -> str:
        return f"{self.where}: {self.reason}"
