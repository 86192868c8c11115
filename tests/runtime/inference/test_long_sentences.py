"""A sentence longer than a batch gets the same vectors in segments as at once."""

import numpy as np
import pytest

from elmo_runtime import Embedder, State

OUTPUTS = ("word_emb", "lstm_outputs1", "lstm_outputs2", "elmo", "default", "layers", "layer_means")


@pytest.fixture
def loaded(bundle):
    """A function that loads the bundle with a token budget."""
    opened = []

    def load(token_budget, **options):
        options = {"backend": "onnxruntime-cpu", "self_check": False} | options
        opened.append(Embedder.load(bundle, token_budget=token_budget, **options))
        return opened[-1]

    yield load
    for embedder in opened:
        embedder.close()


def sentence(length):
    return [f"w{number * number % 37}" for number in range(length)]


def some_state(embedder, rows):
    zeros, generator = State.zeros(embedder.config, rows), np.random.default_rng(5)
    return State(*(generator.normal(0, 0.3, a.shape).astype("f") for a in (zeros.h, zeros.c)))


@pytest.mark.parametrize("length", [31, 39, 40, 333])
@pytest.mark.parametrize("with_state", [False, True])
def test_segments_change_no_bit(loaded, length, with_state):
    at_once, in_windows = loaded(100_000), loaded(40)
    state = some_state(at_once, 3) if with_state else None
    sentences = [sentence(length), [], sentence(3)]
    options = {"outputs": OUTPUTS, "mix_weights": [0.1, 0.7, -0.2], "gamma": 1.5, "state": state}
    expected, found = (elmo.embed(sentences, **options) for elmo in (at_once, in_windows))
    for name in OUTPUTS:
        assert all(map(np.array_equal, found[name], expected[name])), name
    if with_state:
        assert np.array_equal(found.state.h, expected.state.h)
        assert np.array_equal(found.state.c, expected.state.c)


def test_several_mixes_and_float16_work_in_segments_too(loaded):
    options = {
        "outputs": ("elmo", "default"),
        "mixes": {"a": ([1, 0, 0], 1.0), "b": ([0, 0, 1], 2.0)},
        "dtype": "float16",
    }
    expected, found = (loaded(size).embed([sentence(99)], **options) for size in (1000, 40))
    for name in ("elmo:a", "elmo:b", "default:a", "default:b"):
        assert np.array_equal(found[name][0], expected[name][0])


def test_a_segment_is_never_larger_than_the_budget(spy_on):
    spy, embedder = spy_on(token_budget=64)
    embedder.embed([sentence(500)])
    assert len(spy.batches) > 10
    assert max(rows * places for rows, places in spy.batches) <= 64


def test_a_long_sentence_is_counted_once(loaded):
    embedder = loaded(40)
    embedder.embed([sentence(333)])
    assert (embedder.stats().sentences, embedder.stats().tokens) == (1, 333)


def test_a_long_token_is_not_kept_in_memory(loaded):
    embedder = loaded(100)
    embedder.embed([["x" * 10_000, "short"]])
    assert embedder.stats().cached_words == 3  # <S>, short, </S>
