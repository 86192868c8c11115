"""Sentences -> batches of similar length, none larger than the token budget."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from elmo_runtime.characters import BOUNDARY_TOKENS
from elmo_runtime.inference.word_cache import Word

MOST_PADDED = 4  # padded positions in the results of a packed group, per token of the budget
BEGIN, END = BOUNDARY_TOKENS  # <S> and </S> are computed like tokens


def batches(
    rows: NDArray[np.intp],
    lengths: NDArray[np.int32],
    *,
    token_budget: int,
    longest: int | None = None,
    packed: bool = False,
) -> Iterator[NDArray[np.intp]]:
    """Yield the rows in groups, the longest sentences first.

    A group of n sentences, the longest of m tokens, has n * (m + 2) <= token_budget, or n = 1; a
    sentence with m + 2 > longest gets its own group. Sentences of equal length keep their order.

    packed: the backend computes no padding, so only tokens and boundary tokens count. Its results
    are padded nevertheless, so n * (m + 2) <= MOST_PADDED * token_budget.
    """
    order = rows[np.argsort(-lengths[rows], kind="stable")]
    start = 0
    while start < len(order):
        marked_length = int(lengths[order[start]]) + len(BOUNDARY_TOKENS)
        fits = longest is None or marked_length <= longest
        places = token_budget * (MOST_PADDED if packed else 1)
        count = max(1, places // marked_length) if fits else 1
        if packed:
            marked = lengths[order[start : start + count]].astype(np.int64) + len(BOUNDARY_TOKENS)
            count = max(1, int(np.searchsorted(np.cumsum(marked), token_budget, side="right")))
        yield order[start : start + count]
        start += count


@dataclass(frozen=True)
class IndexedWords:
    """A batch as its distinct words and the index of the word at every position."""

    words: Sequence[Word]
    word_index: NDArray[np.int32]  # (batch, length + 2), 0 past each </S>; length is at least 1
    lengths: NDArray[np.int32]

    @classmethod
    def of(cls, sentences: Sequence[Sequence[Word]]) -> IndexedWords:
        """Add the boundary tokens to each sentence and number the words in order of occurrence."""
        return cls.of_marked([(BEGIN, *sentence, END) for sentence in sentences])

    @classmethod
    def of_marked(cls, rows: Sequence[Sequence[Word]]) -> IndexedWords:
        """Number the words of rows as they are; a graph drops the first and last position."""
        lengths = np.array([len(row) - len(BOUNDARY_TOKENS) for row in rows], np.int32)
        # At least length 1, because no graph accepts a batch without a position for a token.
        word_index = np.zeros((len(rows), max(lengths.max(), 1) + len(BOUNDARY_TOKENS)), np.int32)
        number: dict[Word, int] = {}
        for places, row in zip(word_index, rows, strict=True):
            places[: len(row)] = [number.setdefault(word, len(number)) for word in row]
        return cls(list(number), word_index, lengths)
