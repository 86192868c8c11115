"""Token vectors of words, computed once, because they do not depend on context."""

from __future__ import annotations

import itertools
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from elmo_runtime.characters import checked_char_ids, lengths_of
from elmo_runtime.config import ElmoConfig

Word = str | bytes  # a token, or the int32 row of character ids that a caller passed for one
Vectors = NDArray[np.float32]
LONGEST_KEPT = 512  # characters or bytes; a cache of very long tokens would fill the memory

NO_ID = -1
_next_id = itertools.count()  # of the process, because several caches may use one backend


def words_of_ids(ids: NDArray[Any], config: ElmoConfig) -> list[list[Word]]:
    """(batch, length, max_characters) ids -> the words of each sentence.

    Raises InputError with the first cell that cannot be a character id.
    """
    ids = checked_char_ids(ids, max_characters=config.max_characters_per_token)
    return [
        [row.tobytes() for row in sentence[:length]]
        for sentence, length in zip(ids, lengths_of(ids), strict=True)
    ]


@dataclass(frozen=True)
class CacheStats:
    """The number of distinct words of batches that were cached or not, and of cached words."""

    hits: int
    misses: int
    words: int


@dataclass(frozen=True)
class IdentifiedWords:
    """The vectors (words, width) and their ids (words,), which are unique.

    A backend may keep vectors on its device by their ids. -1: the vector is not cached.
    """

    vectors: Vectors
    ids: NDArray[np.int64]


class WordVectors:
    """The vectors of the `capacity` most recently used words; any number of threads may share it.

    `compute` maps n words to their (n, width) vectors and must be batch-invariant, so that results
    do not depend on the content of the cache.
    """

    def __init__(
        self, compute: Callable[[Sequence[Word]], Vectors], *, width: int, capacity: int
    ) -> None:
        self._compute = compute
        self._capacity = capacity
        self._store = np.empty((capacity, width), np.float32)  # pages are allocated at first use
        self._ids = np.empty(capacity, np.int64)
        self._slot_of: OrderedDict[Word, int] = OrderedDict()  # the most recently used word is last
        self._lock = threading.Lock()
        self._hits = self._misses = 0

    def of(self, words: Sequence[Word]) -> Vectors:
        """Distinct words -> (words, width)."""
        return self.identified(words).vectors

    def identified(self, words: Sequence[Word]) -> IdentifiedWords:
        """Distinct words -> their vectors with ids."""
        vectors = np.empty((len(words), self._store.shape[1]), np.float32)
        ids = np.full(len(words), NO_ID, np.int64)
        unknown = self._read(words, vectors, ids)
        if unknown:
            computed = self._compute([words[position] for position in unknown])
            vectors[unknown] = computed
            ids[unknown] = self._keep([words[position] for position in unknown], computed)
        return IdentifiedWords(vectors, ids)

    def stats(self) -> CacheStats:
        """Counts since the cache was made."""
        with self._lock:
            return CacheStats(self._hits, self._misses, len(self._slot_of))

    def _read(self, words: Sequence[Word], vectors: Vectors, ids: NDArray[np.int64]) -> list[int]:
        """Fill in the known vectors and ids; return the positions of the others."""
        known, slots, unknown = [], [], []
        with self._lock:
            for position, word in enumerate(words):
                slot = self._slot_of.get(word)
                if slot is None:
                    unknown.append(position)
                else:
                    self._slot_of.move_to_end(word)
                    known.append(position)
                    slots.append(slot)
            vectors[known] = self._store[slots]
            ids[known] = self._ids[slots]
            self._hits += len(known)
            self._misses += len(unknown)
        return unknown

    def _keep(self, words: Sequence[Word], vectors: Vectors) -> list[int]:
        """Cache as many words as fit; returns the ids of all."""
        first = max(len(words) - self._capacity, 0)
        with self._lock:
            kept = [
                self._keep_one(word, vector)
                for word, vector in zip(words[first:], vectors[first:], strict=True)
            ]
        return [NO_ID] * first + kept

    def _keep_one(self, word: Word, vector: Vectors) -> int:
        if word in self._slot_of:  # another thread has computed it in the meantime: the same bits
            return int(self._ids[self._slot_of[word]])
        if len(word) > LONGEST_KEPT:
            return NO_ID
        slot = len(self._slot_of)
        if slot == self._capacity:
            _, slot = self._slot_of.popitem(last=False)
        self._slot_of[word] = slot
        self._store[slot], self._ids[slot] = vector, next(_next_id)
        return int(self._ids[slot])
