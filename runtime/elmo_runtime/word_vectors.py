"""Token vectors of words, each computed once: a word's vector does not depend on its context."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Word = str | bytes  # a token, or the int32 row of character ids that a caller gave for one
Vectors = NDArray[np.float32]
LONGEST_KEPT = 512  # characters or bytes; a cache of tokens of a megabyte each would fill memory


@dataclass(frozen=True)
class CacheStats:
    """How often a distinct word of a batch was known, and how many are."""

    hits: int
    misses: int
    words: int


class WordVectors:
    """The vectors of the words used last, at most `capacity`; safe for many threads.

    `compute` maps n words to their (n, width) vectors and must give a word the same bits in
    whatever company it comes; then results do not depend on what the cache holds.
    """

    def __init__(
        self, compute: Callable[[Sequence[Word]], Vectors], *, width: int, capacity: int
    ) -> None:
        self._compute = compute
        self._capacity = capacity
        self._store = np.empty((capacity, width), np.float32)  # the system hands out pages at use
        self._slot_of: OrderedDict[Word, int] = OrderedDict()  # the word used last stands last
        self._lock = threading.Lock()
        self._hits = self._misses = 0

    def of(self, words: Sequence[Word]) -> Vectors:
        """Distinct words -> (words, width)."""
        vectors = np.empty((len(words), self._store.shape[1]), np.float32)
        unknown = self._read(words, vectors)
        if unknown:
            computed = self._compute([words[position] for position in unknown])
            vectors[unknown] = computed
            self._keep([words[position] for position in unknown], computed)
        return vectors

    def stats(self) -> CacheStats:
        """Counts since the cache was made."""
        with self._lock:
            return CacheStats(self._hits, self._misses, len(self._slot_of))

    def _read(self, words: Sequence[Word], vectors: Vectors) -> list[int]:
        """Fill in the known vectors; return the positions of the others."""
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
            self._hits += len(known)
            self._misses += len(unknown)
        return unknown

    def _keep(self, words: Sequence[Word], vectors: Vectors) -> None:
        with self._lock:
            first = max(len(words) - self._capacity, 0)
            for word, vector in zip(words[first:], vectors[first:], strict=True):
                if word in self._slot_of:  # another thread computed it meanwhile: the same bits
                    continue
                if len(word) > LONGEST_KEPT:
                    continue
                slot = len(self._slot_of)
                if slot == self._capacity:
                    _, slot = self._slot_of.popitem(last=False)
                self._slot_of[word] = slot
                self._store[slot] = vector
