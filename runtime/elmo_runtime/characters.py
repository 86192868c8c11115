"""Text -> tokens -> character ids; the only place that knows 50, 256..260 and the +1."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

BEGIN_SENTENCE, END_SENTENCE, BEGIN_WORD, END_WORD, PADDING = 256, 257, 258, 259, 260
N_RAW_CHARACTERS = 261  # bytes 0..255 and the five marks above
N_CHARACTERS = 262  # inference adds 1 to every id; 0 stands for "no token"


def mark_row(mark: int, max_characters: int = 50) -> NDArray[np.int32]:
    """The shifted row (max_characters,) of a sentence mark: begin of word, mark, end of word."""
    row = np.full(max_characters, PADDING, np.int32)
    row[:3] = (BEGIN_WORD, mark, END_WORD)
    return row + 1
