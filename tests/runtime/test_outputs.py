"""The vectors of a call, by name: collector, padded, one sentence at a time."""

from __future__ import annotations

import numpy as np
import pytest

from elmo_runtime.inference.collector import Collector
from elmo_runtime.inference.request import Request
from elmo_runtime.mixes import Mixes
from elmo_runtime.outputs import Embeddings, output_names
from random_models import tiny_config

CONFIG = tiny_config()
SENTENCES = ["the cat sat", "", "dogs"]
ALL = output_names(CONFIG)


@pytest.fixture(scope="module")
def out(embedder) -> Embeddings:
    return embedder.embed(SENTENCES, outputs=ALL)


def test_the_shapes_are_those_of_tf_hub_and_allennlp(out):
    assert {name: [vectors.shape for vectors in out[name]] for name in out} == {
        "word_emb": [(3, 8), (0, 8), (1, 8)],
        "lstm_outputs1": [(3, 16), (0, 16), (1, 16)],
        "lstm_outputs2": [(3, 16), (0, 16), (1, 16)],
        "elmo": [(3, 16), (0, 16), (1, 16)],
        "default": [(16,)] * 3,
        "layers": [(3, 3, 16), (3, 0, 16), (3, 1, 16)],
        "layer_means": [(3, 16)] * 3,
    }
    assert out.lengths.tolist() == [3, 0, 1]
    assert isinstance(out["default"], np.ndarray)


def test_layer_means_are_the_means_over_the_tokens(out):
    for layers, means in zip(out.layers, out.layer_means, strict=True):
        expected = layers.mean(axis=1) if layers.size else np.zeros((3, 16))
        np.testing.assert_allclose(means, expected, rtol=0, atol=1e-6)


def test_layer_means_do_not_depend_on_the_batch(embedder, out):
    for sentence, means in zip(SENTENCES, out.layer_means, strict=True):
        alone = embedder.embed([sentence], outputs=["layer_means"])
        assert np.array_equal(alone.layer_means[0], means)


def test_properties_are_the_outputs(out):
    assert out.elmo is out["elmo"] and out.default is out["default"]
    assert out.word_emb is out["word_emb"] and out.layers is out["layers"]
    assert out.layer_means is out["layer_means"]


def test_padding_puts_zeros_past_each_length(out):
    padded = out.padded("elmo")
    assert padded.shape == (3, 3, 16)
    assert (padded[0] == out["elmo"][0]).all()
    assert not padded[1].any() and not padded[2, 1:].any()
    assert out.padded("layers").shape == (3, 3, 3, 16)
    assert out.padded("default") is out["default"]


def test_layer_0_is_the_word_vector_twice(out):
    word_emb = out["word_emb"][0]
    assert (out["layers"][0][0] == np.hstack([word_emb, word_emb])).all()
    assert (out["layers"][0][2] == out["lstm_outputs2"][0]).all()


def test_each_sentence_becomes_separate_embeddings(out):
    alone = list(out.each())
    assert [one["elmo"][0].shape for one in alone] == [(3, 16), (0, 16), (1, 16)]
    assert (alone[2]["default"][0] == out["default"][2]).all()
    assert alone[0].padded("elmo").shape == (1, 3, 16)


def test_an_array_keeps_nothing_but_itself_in_memory(out):
    assert all(vectors.base is None for vectors in out["elmo"])


def test_a_separate_sentence_keeps_no_other_in_memory(out):
    """`default` and the lengths were views of all sentences."""
    for one in out.each():
        assert one["default"].base is None
        assert one.lengths.base is None


def test_an_output_that_was_not_requested_is_missing(embedder):
    with pytest.raises(KeyError, match="'default' was not requested; the call gave elmo"):
        _ = embedder.embed(["a"]).default


def test_float16_is_the_float32_rounded(embedder, out):
    half = embedder.embed(SENTENCES, outputs=ALL, dtype="float16")
    for name in ALL:
        for coarse, fine in zip(half[name], out[name], strict=True):
            assert coarse.dtype == np.float16
            np.testing.assert_array_equal(coarse, fine.astype(np.float16))
    assert half.padded("elmo").dtype == np.float16


def test_float16_contains_no_infinity():
    request = Request.of(CONFIG, outputs=["elmo"], mixes=Mixes.of(CONFIG), dtype="float16")
    collector = Collector(request, CONFIG, np.array([1], np.int32))
    collector.add(np.array([0]), {"elmo": np.full((1, 1, 1, 16), -1e9, np.float32)})
    assert (collector.finish(None)["elmo"][0] == -65504).all()
