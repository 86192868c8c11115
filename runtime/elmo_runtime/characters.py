"""Tokens -> character ids; the only place that knows 50, 256..260 and the +1.

A token is its first 48 UTF-8 bytes; every id is shifted by one, because 0 means "no token".
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from elmo_runtime.errors import InputError

BEGIN_SENTENCE, END_SENTENCE, BEGIN_WORD, END_WORD, PADDING = 256, 257, 258, 259, 260
N_RAW_CHARACTERS = 261  # bytes 0..255 and the five special ids above
N_CHARACTERS = 262  # inference adds 1 to every id; 0 means "no token"
BOUNDARY_TOKENS = {"<S>": BEGIN_SENTENCE, "</S>": END_SENTENCE}


def boundary_row(token_id: int, max_characters: int = 50) -> NDArray[np.int32]:
    """The shifted row (max_characters,) of a boundary token: begin of word, its id, end of word."""
    row = np.full(max_characters, PADDING, np.int32)
    row[:3] = (BEGIN_WORD, token_id, END_WORD)
    return row + 1


def char_ids(tokens: Sequence[str], *, max_characters: int = 50) -> NDArray[np.int32]:
    """The character ids of tokens, as the character CNN reads them.

    Args:
        tokens: Any strings; each distinct token is mapped once.
        max_characters: The size of a row; a token keeps max_characters - 2 bytes of UTF-8.

    Returns:
        int32 ids, shape (tokens, max_characters), shifted by one because 0 means "no token".

    Examples:
        >>> char_ids(["cat"], max_characters=7).tolist()
        [[259, 100, 98, 117, 260, 261, 261]]
    """
    row_of: dict[str, int] = {}
    index = [row_of.setdefault(token, len(row_of)) for token in tokens]
    rows = _rows(list(row_of), max_characters)
    return rows if len(row_of) == len(index) else rows[index]


def count_cut(tokens: Iterable[str | bytes], *, max_characters: int = 50) -> int:
    """The number of tokens with too many bytes of UTF-8, whose end is cut.

    Rows of ids from a caller, as bytes, do not count: their tokens are unknown.
    """
    room = max_characters - 2  # begin and end of word
    # A character has at most four bytes, so short tokens need no encoding.
    candidates = (t for t in tokens if 4 * len(t) > room and isinstance(t, str))
    return sum(len(token.encode("utf-8", "ignore")) > room for token in candidates)


def trim(char_ids: NDArray[np.int32], widest_filter: int) -> NDArray[np.int32]:
    """Cut columns of (words, characters) that are padding in every row and change no maximum.

    Each filter keeps one window of padding after the longest word, which equals every window that
    is cut. The width is rounded up to a multiple of 4.
    """
    used = int(np.flatnonzero((char_ids != PADDING + 1).any(axis=0)).max(initial=-1)) + 1
    width = -(-(used + widest_filter) // 4) * 4
    return np.ascontiguousarray(char_ids[:, :width])


def checked_char_ids(value: object, *, max_characters: int = 50) -> NDArray[np.int32]:
    """The ids of a caller -> (batch, length, max_characters) int32, 0 past each sentence.

    Raises InputError with the first cell that no text can produce.
    """
    ids = _integer_array(value)
    if ids.ndim != 3 or ids.shape[2] != max_characters:
        raise InputError(
            f"char_ids has shape {ids.shape}, must be (batch, length, {max_characters})"
        )
    real: NDArray[np.bool_] = np.any(ids != 0, axis=2)
    wrong = ((ids < 1) | (ids > N_RAW_CHARACTERS)) & real[:, :, None]
    if wrong.any():
        row, position, column = np.argwhere(wrong)[0]
        raise InputError(
            f"char_ids[{row}, {position}, {column}] is {ids[row, position, column]},"
            f" the ids of a token are 1..{N_RAW_CHARACTERS}"
        )
    holes = real[:, 1:] & ~real[:, :-1]
    if holes.any():
        row, position = np.argwhere(holes)[0]
        raise InputError(
            f"char_ids[{row}, {position}] is all zero, but the token after it is not",
            hint="zeros are allowed only after the end of a sentence",
        )
    return ids.astype(np.int32)


def lengths_of(char_ids: NDArray[np.int32]) -> NDArray[np.int32]:
    """Checked ids (batch, length, characters) -> number of tokens (batch,)."""
    lengths: NDArray[np.int32] = np.any(char_ids != 0, axis=2).sum(axis=1, dtype=np.int32)
    return lengths


def _rows(words: list[str], max_characters: int) -> NDArray[np.int32]:
    room = max_characters - 2  # begin and end of word
    # Lone surrogates vanish, and the cut may split a character: both as in bilm-tf.
    encoded = [word.encode("utf-8", "ignore")[:room] for word in words]
    sizes = np.fromiter(map(len, encoded), np.intp, len(encoded))
    rows = np.full((len(words), max_characters), PADDING + 1, np.int32)
    rows[:, 0] = BEGIN_WORD + 1
    inside = np.arange(room) < sizes[:, None]
    # A mask is filled row by row, so the bytes of all words can be one string.
    rows[:, 1:-1][inside] = np.frombuffer(b"".join(encoded), np.uint8).astype(np.int32) + 1
    rows[np.arange(len(words)), sizes + 1] = END_WORD + 1
    for token, mark in BOUNDARY_TOKENS.items():
        if token in words:
            rows[words.index(token)] = boundary_row(mark, max_characters)
    return rows


def _integer_array(value: object) -> NDArray[np.integer]:
    try:
        ids = np.asarray(value)
    except (TypeError, ValueError, OverflowError, RuntimeError) as error:
        raise InputError(f"char_ids cannot be read as an array: {error}") from error
    if ids.dtype.kind not in "iu":
        raise InputError(f"char_ids has dtype {ids.dtype}, must be an integer type")
    return ids
