"""Text -> tokens -> ids, as bilm-tf, AllenNLP and TF Hub do it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from elmo_runtime.characters import (
    char_ids,
    checked_char_ids,
    count_cut,
    lengths_of,
    trim,
)
from elmo_runtime.errors import InputError
from oracle import character_ids

ANY_TEXT = st.text(st.characters(min_codepoint=0, max_codepoint=0x10FFFF, exclude_categories=()))


def a_batch(*sentences: str) -> np.ndarray:
    """Ids (batch, longest, 50) of texts, 0 past each."""
    batch = np.zeros((len(sentences), max(len(text.split()) for text in sentences), 50), np.int64)
    for row, text in zip(batch, sentences, strict=True):
        row[: len(text.split())] = char_ids(text.split())
    return batch


@given(st.lists(ANY_TEXT, max_size=20))
def test_ids_are_those_of_an_independent_mapper(tokens):
    assert char_ids(tokens).tolist() == [character_ids(token) for token in tokens]


def test_the_vector_known_from_allennlp():
    assert char_ids([chr(256) + "t"])[0, :6].tolist() == [259, 197, 129, 117, 260, 261]


@pytest.mark.parametrize("token", ["<S>", "</S>", "", "é" * 30, "a" + "é" * 30, "\ud800", "a\0b"])
def test_boundary_empty_cut_and_broken_tokens(token):
    assert char_ids(["x", token, "x", token]).tolist() == [
        character_ids(each) for each in ("x", token, "x", token)
    ]


@given(st.lists(ANY_TEXT, max_size=20), st.integers(3, 60))
def test_tokens_that_are_cut_are_counted(tokens, width):
    cut = sum(len(token.encode("utf-8", "ignore")) > width - 2 for token in tokens)
    assert count_cut(tokens, max_characters=width) == cut


def test_another_width_cuts_elsewhere():
    assert char_ids(["abcdef"], max_characters=6).tolist() == [character_ids("abcdef", width=6)]


def test_ids_of_a_caller_come_back_with_their_lengths():
    ids = checked_char_ids(a_batch("a bc", "d"))
    assert ids.dtype == np.int32
    assert lengths_of(ids).tolist() == [2, 1]


@pytest.mark.parametrize(
    ("spoil", "named"),
    [
        (lambda ids: ids.astype(np.float32), "dtype float32"),
        (lambda ids: ids > 0, "dtype bool"),
        (lambda ids: ids[:, :, :49], r"shape \(2, 2, 49\)"),
        (lambda ids: ids[0], r"shape \(2, 50\)"),
        (lambda ids: [[1], [2, 3]], "cannot be read"),
        (lambda ids: "text", "dtype <U4"),
        (lambda ids: None, "dtype object"),
    ],
)
def test_a_value_that_is_not_an_array_of_ids_is_refused(spoil, named):
    with pytest.raises(InputError, match=named):
        checked_char_ids(spoil(a_batch("a bc", "d")))


@pytest.mark.parametrize("wrong", [-1, 262, 2**40, 0])
def test_an_id_that_no_character_has_is_named_by_its_cell(wrong):
    ids = a_batch("a bc", "d")
    ids[0, 1, 7] = wrong
    with pytest.raises(InputError, match=rf"char_ids\[0, 1, 7\] is {wrong},"):
        checked_char_ids(ids)


def test_a_gap_between_tokens_is_named():
    ids = a_batch("a b c", "d e f")
    ids[1, 1] = 0
    with pytest.raises(InputError, match=r"char_ids\[1, 1\] is all zero"):
        checked_char_ids(ids)


@given(st.lists(st.text(max_size=60), min_size=1, max_size=5), st.integers(1, 7))
def test_trimming_cuts_only_padding_and_leaves_a_window_of_it(tokens, widest):
    ids = char_ids(tokens)
    cut = trim(ids, widest)
    used = int((ids != 261).sum(axis=1).max())  # no text has padding inside a word
    assert (ids[:, cut.shape[1] :] == 261).all()
    assert cut.shape[1] >= min(used + widest, 50)
    assert cut.shape[1] % 4 == 0 or cut.shape[1] == 50


def test_trimming_keeps_ids_after_padding():
    """It counted the ids without padding, and so cut a word with padding inside."""
    ids = np.full((2, 50), 261, np.int32)
    ids[1, [0, 40]] = 259, 100
    assert trim(ids, 3).shape == (2, 44)
    assert trim(ids[:1], 3).shape == (1, 4)
