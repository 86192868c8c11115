"""The blocks of a worker, and the result of its run."""

from __future__ import annotations

from dataclasses import dataclass, field

from elmo_runtime.errors import InputError


@dataclass(frozen=True, kw_only=True)
class Shard:
    """The share of one worker: block b belongs to worker b mod count."""

    index: int = 0
    count: int = 1

    @classmethod
    def parse(cls, text: str) -> Shard:
        """Read "i/n", i from 0 to n - 1."""
        index, slash, count = text.partition("/")
        if not (slash and index.isdecimal() and count.isdecimal() and int(index) < int(count)):
            raise InputError(f"shard is {text!r}", hint="write i/n with i from 0 to n - 1: 0/4")
        return cls(index=int(index), count=int(count))

    def owns(self, block: int) -> bool:
        """Whether this worker embeds the block."""
        return block % self.count == self.index


@dataclass
class Summary:
    """The result of a run, for all blocks of this worker."""

    parts_written: int = 0
    parts_found: int = 0
    sentences: int = 0
    tokens: int = 0
    skipped: list[str] = field(default_factory=list)  # one line each: file, line number, reason
    stopped: bool = False  # stopped before the end of the input
