"""Shards -> an endless stream of sentences -> rows without gaps -> windows of words.

Every random choice follows from (seed, direction, epoch, shard), so a position is a few counters.
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

BLOCK = 500_000  # sentences that are shuffled together; a longer shard is shuffled in blocks


class Window(NamedTuple):
    """Words of (rows, steps): the inputs, and the word that follows each of them."""

    inputs: list[list[str]]
    targets: list[list[str]]


@dataclass(frozen=True)
class Position:
    """The position in a stream of sentences; `sentence` counts inside `block` of the shard."""

    epoch: int = 0  # how often all shards were read
    shard: int = 0  # index in the random order of this epoch
    block: int = 0
    sentence: int = 0


class ShuffledSentences:
    """An endless stream of sentences: shards in random order, each shuffled."""

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
                raise InputError("the training files contain no sentence")
            self._advance()
        tokens = self._block[self.position.sentence]
        self.position = replace(self.position, sentence=self.position.sentence + 1)
        return tokens

    def _advance(self) -> None:
        """Advance to the next block, shard or epoch."""
        at = self.position
        if self._block:
            self.position = replace(at, block=at.block + 1, sentence=0)
        elif at.shard + 1 < len(self._shards):
            self.position = Position(at.epoch, at.shard + 1)
            self._reader = self._open_shard()
        else:
            self.position = Position(at.epoch + 1)
            self._reader = self._open_shard()
        self._block = self._read_block()

    def _open_shard(self) -> Iterator[list[str]]:
        order = self._random(self.position.epoch).permutation(len(self._shards))
        return read_sentences(self._shards[order[self.position.shard]])

    def _read_block(self) -> list[list[str]]:
        at = self.position
        block = list(islice(self._reader, BLOCK))
        self._random(at.epoch, at.shard, at.block).shuffle(block)
        return block

    def _random(self, *counters: int) -> np.random.Generator:
        return numbers_for(Purpose.SENTENCES, self._seed, self._direction, *counters)


class PackedRows:
    """Rows of sentences without gaps, each <S> tokens </S>, read window by window.

    The inputs are all words of such a sentence but the last and the targets all but the first, so
    that the forward direction never reads </S> and, with `backward`, the backward one never <S>.
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
        """The next `steps` words per row; None if the sentences end before all rows are full."""
        window = Window([], [])
        for index in range(len(self.rows)):
            inputs: list[str] = []
            targets: list[str] = []
            while len(inputs) < steps:
                if len(self.rows[index]) < 2:  # the last word of a sentence predicts nothing
                    sentence = next(self._sentences, None)
                    if sentence is None:
                        return None
                    self.rows[index] = self._with_boundaries(sentence)
                row = self.rows[index]
                taken = min(len(row) - 1, steps - len(inputs))
                inputs += row[:taken]
                targets += row[1 : taken + 1]
                self.rows[index] = row[taken:]
            window.inputs.append(inputs)
            window.targets.append(targets)
        return window

    def _with_boundaries(self, tokens: Sequence[str]) -> list[str]:
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
                position=_position(state["positions"][direction]) if state else None,
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
        """The position of the streams as JSON values; the argument `state` continues from it."""
        return {
            "positions": [asdict(sentences.position) for sentences in self._sentences],
            "rows": [list(rows.rows) for rows in self._rows],
        }


def _position(saved: dict[str, int]) -> Position:
    """A saved position; runs of earlier versions call the epoch a passage."""
    return Position(**{"epoch" if name == "passage" else name: n for name, n in saved.items()})
