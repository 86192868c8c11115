"""Who does which blocks, how far a run is, and what it did."""

from __future__ import annotations

import time
from collections.abc import Callable
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
class Progress:
    """How far a run is. on_change is called after every sentence."""

    shard: Shard
    on_change: Callable[[Progress], None]
    began: float = field(default_factory=time.monotonic)
    fraction_read: float | None = None  # of the bytes of the input
    tokens_read: int = 0  # of all blocks, whoever embeds them
    tokens_waiting: int = 0  # read, to be embedded here, and not yet embedded
    tokens_embedded: int = 0  # in this run
    sentences_embedded: int = 0

    def embedded(self, tokens: int) -> None:
        """Count one sentence."""
        self.sentences_embedded += 1
        self.tokens_embedded += tokens
        self.tokens_waiting -= tokens
        self.on_change(self)

    @property
    def tokens_per_second(self) -> float:
        """The rate of this run."""
        return self.tokens_embedded / max(time.monotonic() - self.began, 1e-9)

    @property
    def seconds_left(self) -> float | None:
        """An estimate from the bytes still unread; None where it cannot be known."""
        if not self.fraction_read or not self.tokens_embedded:
            return None
        unread = self.tokens_read * (1 - self.fraction_read) / self.fraction_read
        return (self.tokens_waiting + unread / self.shard.count) / self.tokens_per_second


@dataclass
class Summary:
    """What a run did and what it found done; all of this worker's blocks."""

    parts_written: int = 0
    parts_found: int = 0
    sentences: int = 0
    tokens: int = 0
    skipped: list[str] = field(default_factory=list)  # a line each: file, line number, reason
    stopped: bool = False  # asked to stop before the end of the input
