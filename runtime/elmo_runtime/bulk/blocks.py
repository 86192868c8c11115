"""Records -> blocks, the units that are embedded, written and resumed.

The end of a block depends only on the input, so that any number of workers, killed any number of
times, cut the same input into the same blocks.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from elmo_runtime.errors import InputError
from elmo_runtime.text.records import BadRecord, Record


@dataclass(frozen=True, kw_only=True)
class BlockLimits:
    """A block ends after this many input lines, or before its tokens would exceed this number."""

    rows: int = 5_000
    tokens: int = 50_000  # about 100 MB of float16 vectors of width 1024; a minute on a CPU

    def __post_init__(self) -> None:
        """Reject limits that no record can meet."""
        for name in ("rows", "tokens"):
            if getattr(self, name) < 1:
                raise InputError(f"a block of {getattr(self, name)} {name}: must be at least 1")


@dataclass(frozen=True)
class Block:
    """Consecutive input lines. digest: SHA-256 of their content."""

    number: int
    records: tuple[Record, ...]
    failures: tuple[BadRecord, ...]
    digest: str

    @property
    def n_tokens(self) -> int:
        """The number of tokens of its sentences."""
        return sum(len(record.tokens) for record in self.records)


def blocks(lines: Iterable[Record | BadRecord], limits: BlockLimits) -> Iterator[Block]:
    """Cut the input into blocks numbered from 0; an empty input is one empty block."""
    block = _OpenBlock(0)
    for line in lines:
        if block.is_full(line, limits):
            yield block.close()
            block = _OpenBlock(block.number + 1)
        block.add(line)
    if block.rows or block.number == 0:
        yield block.close()


class _OpenBlock:
    def __init__(self, number: int) -> None:
        self.number = number
        self.rows = 0
        self._tokens = 0
        self._records: list[Record] = []
        self._failures: list[BadRecord] = []
        self._digest = hashlib.sha256()

    def is_full(self, line: Record | BadRecord, limits: BlockLimits) -> bool:
        """Whether this line belongs to the next block; a block takes at least one line."""
        tokens = len(line.tokens) if isinstance(line, Record) else 0
        over = self._tokens + tokens > limits.tokens
        return self.rows > 0 and (self.rows >= limits.rows or over)

    def add(self, line: Record | BadRecord) -> None:
        self.rows += 1
        if isinstance(line, Record):
            self._records.append(line)
            self._tokens += len(line.tokens)
            content: list[object] = [line.id, line.tokens]
        else:
            self._failures.append(line)
            content = [line.where]
        self._digest.update(json.dumps(content).encode() + b"\n")

    def close(self) -> Block:
        return Block(
            self.number, tuple(self._records), tuple(self._failures), self._digest.hexdigest()
        )
