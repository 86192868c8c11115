"""Loads have the shapes that their names say, and are the same at every run."""

from __future__ import annotations

import gzip

import numpy as np
import pytest

from elmo_deploy.benchmark.loads import (
    drawn_sentences,
    grid_load,
    ragged_load,
    read_sentences,
    standard_loads,
)
from elmo_runtime.errors import InputError


def drawn(count: int = 400):
    return drawn_sentences(count, np.random.default_rng(0))


def test_a_grid_load_splits_the_text_again():
    load = grid_load(2, 2, [("a", "b", "c"), ("d",)])
    assert load.calls == ((("a", "b"), ("c", "d")),)
    assert (load.name, load.n_sentences, load.n_tokens) == ("2 x 2", 2, 4)


def test_a_ragged_load_keeps_the_order_of_the_text():
    sentences = [("a", "b", "c"), ("d",), ("e", "f"), ("g",)]
    load = ragged_load(2, sentences, n_calls=2)
    assert load.calls == ((("a", "b", "c"), ("d",)), (("e", "f"), ("g",)))


def test_a_sorted_load_is_the_same_sentences_by_length():
    sentences = drawn(64)
    ragged = ragged_load(32, sentences, n_calls=2)
    by_length = ragged_load(32, sentences, n_calls=2, by_length=True)
    flat = [len(sentence) for call in by_length.calls for sentence in call]
    assert flat == sorted(len(sentence) for call in ragged.calls for sentence in call)


def test_drawn_sentences_are_about_as_long_as_news():
    assert np.mean([len(sentence) for sentence in drawn()]) == pytest.approx(20, rel=0.1)


def test_drawn_words_repeat_as_zipf_says():
    words = [word for sentence in drawn() for word in sentence]
    assert 0.2 < len(set(words)) / len(words) < 0.6


def test_drawn_loads_are_the_same_every_time():
    loads = [standard_loads(None, batches=[2], lengths=[4], ragged=2) for _ in range(2)]
    assert loads[0] == loads[1]


def test_a_text_may_be_compressed(tmp_path):
    path = tmp_path / "text.txt.gz"
    path.write_bytes(gzip.compress(b"the cat\n\nsat\n"))
    assert read_sentences(path) == [("the", "cat"), ("sat",)]


def test_an_empty_text_is_refused(tmp_path):
    path = tmp_path / "empty.txt"
    path.write_text("\n")
    with pytest.raises(InputError, match="contains no sentence"):
        read_sentences(path)
