"""Whether cutting the character axis after the longest word keeps every bit."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from elmo_runtime.characters import char_ids, trim
from elmo_runtime.config import ElmoConfig

Encode = Callable[[NDArray[np.int32]], NDArray[np.float32]]


def trimming_is_exact(encode: Encode, config: ElmoConfig) -> bool:
    """Compare words of every length, at each width that `trim` returns, with the full width.

    In exact arithmetic the columns that `trim` cuts never matter, but a matrix product may sum in
    another order when it has fewer columns. ONNX Runtime 1.32 on x86 does so when a filter sums
    over more than 128 numbers (width times character dimension): the vectors then differ in the
    last bit, and a word would depend on the longest word in the batch. All published ELMos have 7 *
    16 = 112 and showed no differing bit at any width, so this function tests the current machine.
    """
    widest = max(width for width, _ in config.filters)
    size = config.max_characters_per_token
    words = [("aZ%~m" * size)[:length] for length in range(1, size - 1)]
    rows = char_ids(words, max_characters=size)
    expected = encode(rows)
    for longest in range(1, len(words) + 1, 4):  # every width once, with a few words
        some = slice(max(longest - 4, 0), longest)
        if not np.array_equal(encode(trim(rows[some], widest)), expected[some]):
            return False
    return True
