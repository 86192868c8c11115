"""Shards -> an endless stream of sentences -> rows packed back to back -> windows of words.

Every random choice follows from (seed, direction, pass, shard), so a position is a few counters.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import islice
from typing import Any, NamedTuple

import numpy as np

from elmo_deploy.training.data.randomness import Purpose, numbers_for
from elmo_deploy.training.data.shards import Shard, read_sentences
from elmo_deploy.training.data.vocabulary import BEGIN, END
from elmo_runtime.errors import InputError

BLOCK = 500_000  # sentences shuffled at a time: a shard of more is shuffled block by block


class Window(NamedTuple):
    """Words of (rows, steps): what is read, and the word that follows each."""

    inputs: list[list[str]]
    targets: list[list[str]]


@dataclass(frozen=True)
class Position:
    """Where a stream of sentences stands: `sentence` counts inside `block` of the shard."""

    passage: int = 0  # how often all shards were read
    shard: int = 0  # place in the random order of this passage
    block: int = 0
    sentence: int = 0


class ShuffledSentences:
    """The sentences of all shards without end: shards in random order, shuffled inside."""

    def __init__(
        self,
        shards: Sequence[Shard],
        *,
        seed: int,
        direction: int,
        position: Position | None = None,
    ) -> None:
        self._shards = shards
        self._seed, self._direction = seed, direction
        self.position = position or Position()
        self._reader = self._open_shard()
        for _ in islice(self._reader, self.position.block * BLOCK):
            pass
        self._block = self._read_block()

    def __iter__(self) -> ShuffledSentences:
        return self

    def __next__(self) -> list[str]:
        empty_shards = 0
        while self.position.sentence >= len(self._block):
            empty_shards = 0 if self._block else empty_shards + 1
            if empty_shards > len(self._shards) + 1:
                raise InputError("the training files hold no sentence")
            self._advance()
        tokens = self._block[self.position.sentence]
        self.position = replace(self.position, sentence=self.position.sentence + 1)
        return tokens

    def _advance(self) -> None:
        """Go to the next block, or shard, or passage."""
        at = self.position
        if self._block:
            self.position = replace(at, block=at.block + 1, sentence=0)
        elif at.shard + 1 < len(self._shards):
            self.position = Position(at.passage, at.shard + 1)
            self._reader = self._open_shard()
        else:
            self.position = Position(at.passage + 1)
            self._reader = self._open_shard()
        self._block = self._read_block()

    def _open_shard(self) -> Iterator[list[str]]:
        order = self._random(self.position.passage).permutation(len(self._shards))
        return read_sentences(self._shards[order[self.position.shard]])

    def _read_block(self) -> list[list[str]]:
        at = self.position
        block = list(islice(self._reader, BLOCK))
        self._random(at.passage, at.shard, at.block).shuffle(block)
        return block

    def _random(self, *counters: int) -> np.random.Generator:
        return numbers_for(Purpose.SENTENCES, self._seed, self._direction, *counters)


class PackedRows:
    """Rows of sentences packed back to back: <S> tokens </S>, read onwards window by window.

    Inputs are all but the last word of a marked sentence and targets all but its first, so that
    the forward direction never reads </S> nor, with `backward`, the backward one <S>.
    """

    def __init__(
        self,
        sentences: Iterator[list[str]],
        *,
        n_rows: int,
        backward: bool = False,
        rows: Sequence[Sequence[str]] | None = None,
    ) -> None:
        self._sentences = sentences
        self._backward = backward
        self.rows = [list(row) for row in rows] if rows is not None else [[] for _ in range(n_rows)]

    def window(self, steps: int) -> Window | None:
        """The next `steps` words of every row; None when the sentences end before all are full."""
        window = Window([], [])
        for index in range(len(self.rows)):
            inputs: list[str] = []
            targets: list[str] = []
            while len(inputs) < steps:
                if len(self.rows[index]) < 2:  # the last word of a sentence predicts nothing
                    sentence = next(self._sentences, None)
                    if sentence is None:
                        return None
                    self.rows[index] = self._marked(sentence)
                row = self.rows[index]
                taken = min(len(row) - 1, steps - len(inputs))
                inputs += row[:taken]
                targets += row[1 : taken + 1]
                self.rows[index] = row[taken:]
            window.inputs.append(inputs)
            window.targets.append(targets)
        return window

    def _marked(self, tokens: Sequence[str]) -> list[str]:
        return [END, *reversed(tokens), BEGIN] if self._backward else [BEGIN, *tokens, END]


class TrainingStreams:
    """The two independent streams of a training run over the same files."""

    def __init__(
        self,
        shards: Sequence[Shard],
        *,
        n_rows: int,
        seed: int,
        state: dict[str, Any] | None = None,
    ) -> None:
        self._sentences = [
            ShuffledSentences(
                shards,
                seed=seed,
                direction=direction,
                position=Position(**state["positions"][direction]) if state else None,
            )
            for direction in range(2)
        ]
        self._rows = [
            PackedRows(
                self._sentences[direction],
                n_rows=n_rows,
                backward=direction == 1,
                rows=state["rows"][direction] if state else None,
            )
            for direction in range(2)
        ]

    def windows(self, steps: int) -> tuple[Window, Window]:
        """The next window of the forward and of the backward stream."""
        forward, backward = (rows.window(steps) for rows in self._rows)
        assert forward is not None and backward is not None  # the sentences never end
        return forward, backward

    def state(self) -> dict[str, Any]:
        """Where the streams stand, as JSON can hold it; `state=` continues from there."""
        return {
            "positions": [asdict(sentences.position) for sentences in self._sentences],
            "rows": [list(rows.rows) for rows in self._rows],
        }
