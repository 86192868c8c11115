"""The cache of token vectors: bounded, least recently used first out, never in the result."""

from __future__ import annotations

import numpy as np
import pytest

from elmo_runtime.inference.word_cache import WordVectors


def length_and_first(words):
    return np.array([[len(word), ord(word[0])] for word in words], np.float32)


@pytest.fixture
def computed():
    return []


@pytest.fixture
def cache_of(computed):
    def compute(words):
        computed.extend(words)
        return length_and_first(words)

    return lambda capacity: WordVectors(compute, width=2, capacity=capacity)


@pytest.mark.parametrize("capacity", [0, 1, 3, 100])
def test_the_vectors_do_not_depend_on_the_capacity(cache_of, capacity):
    cache = cache_of(capacity)
    for words in (["a", "bb"], ["bb", "ccc", "dddd", "e"], ["a"], ["ccc", "a", "bb"]):
        np.testing.assert_array_equal(cache.of(words), length_and_first(words))


def test_a_known_word_is_not_computed_again(cache_of, computed):
    cache = cache_of(10)
    cache.of(["a", "b"])
    cache.of(["b", "c"])
    assert computed == ["a", "b", "c"]
    assert (cache.stats().hits, cache.stats().misses, cache.stats().words) == (1, 3, 3)


def test_the_least_recently_used_word_is_replaced(cache_of, computed):
    cache = cache_of(2)
    cache.of(["a", "b"])
    cache.of(["a"])
    cache.of(["c"])  # in place of b
    cache.of(["a"])
    cache.of(["b"])
    assert computed == ["a", "b", "c", "b"]
    assert cache.stats().words == 2


def test_without_capacity_nothing_is_kept(cache_of, computed):
    cache = cache_of(0)
    cache.of(["a"])
    cache.of(["a"])
    assert computed == ["a", "a"]
