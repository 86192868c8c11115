"""Sentences -> batches of similar length, none larger than the token budget."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from elmo_runtime.inference.batching import IndexedWords, batches

LENGTHS = st.lists(st.integers(0, 40), min_size=1, max_size=60).map(
    lambda lengths: np.array(lengths, np.int32)
)


@given(LENGTHS, st.integers(1, 200))
def test_every_row_comes_once_and_within_the_budget(lengths, budget):
    groups = list(batches(np.arange(len(lengths)), lengths, token_budget=budget))
    assert sorted(np.concatenate(groups)) == list(range(len(lengths)))
    for group in groups:
        assert len(group) == 1 or len(group) * (lengths[group].max() + 2) <= budget


@given(LENGTHS)
def test_the_longest_come_first_and_equal_lengths_keep_their_order(lengths):
    [group] = batches(np.arange(len(lengths)), lengths, token_budget=10**6)
    assert list(group) == sorted(range(len(lengths)), key=lambda row: -lengths[row])


def test_rows_left_out_stay_out():
    lengths = np.array([3, 0, 2], np.int32)
    assert [list(g) for g in batches(np.flatnonzero(lengths), lengths, token_budget=99)] == [[0, 2]]


def test_each_position_names_its_word_between_the_boundary_tokens():
    batch = IndexedWords.of([["a", "b", "a"], ["b"]])
    named = [[batch.words[number] for number in row] for row in batch.word_index]
    assert named[0] == ["<S>", "a", "b", "a", "</S>"]
    assert named[1][:3] == ["<S>", "b", "</S>"]
    assert batch.word_index[1, 3:].tolist() == [0, 0]
    assert batch.lengths.tolist() == [3, 1]
    assert len(batch.words) == 4


def test_a_batch_of_empty_sentences_still_has_a_position():
    assert IndexedWords.of([[], []]).word_index.shape == (2, 3)


@pytest.mark.parametrize("seed", range(5))
def test_a_packed_group_counts_its_tokens_and_bounds_its_padding(seed):
    """Padding was counted although the packed form computes none: ragged calls were cut in two."""
    lengths = np.random.default_rng(seed).integers(0, 60, 300).astype(np.int32)
    groups = list(batches(np.arange(300), lengths, token_budget=200, packed=True))
    assert sorted(np.concatenate(groups)) == list(range(300))
    for group in groups:
        marked = lengths[group] + 2
        assert marked.sum() <= 200 and len(group) * marked.max() <= 4 * 200
    padded = list(batches(np.arange(300), lengths, token_budget=200))
    assert len(groups) <= len(padded)


def test_one_long_sentence_does_not_pad_a_thousand_short_ones():
    lengths = np.array([1000] + [1] * 1000, np.int32)
    groups = list(batches(np.arange(1001), lengths, token_budget=4096, packed=True))
    assert len(groups[0]) == 16 and len(groups) == 2
