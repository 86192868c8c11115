"""The arguments of a call, and the errors of wrong ones."""

from __future__ import annotations

import numpy as np
import pytest

from elmo_runtime.errors import InputError
from elmo_runtime.inference.request import Request
from elmo_runtime.mixes import Mixes, NamedMix
from random_models import tiny_config

CONFIG = tiny_config(n_layers=3)


def request_of(outputs=("elmo",), dtype="float32", **mix) -> Request:
    return Request.of(CONFIG, outputs=outputs, dtype=dtype, mixes=Mixes.of(CONFIG, **mix))


def test_a_call_without_weights_gives_every_layer_the_same_weight():
    mixes = Mixes.of(CONFIG)
    assert mixes.weights.tolist() == [[0, 0, 0, 0]]
    assert mixes.gamma.tolist() == [1]


def test_named_mixes_name_the_outputs():
    wanted = request_of(
        ["default", "elmo", "word_emb"], mixes={"ner": ([0] * 4, 1.0), "pos": ([1] * 4, 2.0)}
    ).specs()
    assert [each.key for each in wanted] == [
        "default:ner",
        "default:pos",
        "elmo:ner",
        "elmo:pos",
        "word_emb",
    ]


STORED = (
    NamedMix(name="ner", weights=(1.0, 2.0, 3.0, 4.0), gamma=0.5),
    NamedMix(name="pos", weights=(4.0, 3.0, 2.0, 1.0), gamma=1.5, layer_norm=True),
)


@pytest.mark.parametrize(
    ("wish", "weights", "gamma", "layer_norm"),
    [
        ({}, [1, 2, 3, 4], 0.5, 0),
        ({"mix": "pos"}, [4, 3, 2, 1], 1.5, 1),
        ({"gamma": 2.0}, [1, 2, 3, 4], 2.0, 0),
        ({"mix": "pos", "gamma": 2.0}, [4, 3, 2, 1], 2.0, 1),
        ({"mix_weights": [0] * 4}, [0] * 4, 1.0, 0),
    ],
)
def test_a_call_gets_the_mix_that_it_names_or_the_default(wish, weights, gamma, layer_norm):
    """The mixes that a user trained were not in the bundle."""
    mixes = Mixes.of(CONFIG, STORED, **wish)
    assert mixes.names == ("",)
    assert (mixes.weights.tolist(), mixes.gamma.tolist()) == ([weights], [gamma])
    assert mixes.layer_norm is not None
    assert mixes.layer_norm.tolist() == [layer_norm]


def test_stored_mixes_are_chosen_by_name():
    assert Mixes.of(CONFIG, STORED, mixes=["pos", "ner"]).gamma.tolist() == [1.5, 0.5]
    with pytest.raises(InputError, match="mix 'srl' does not exist; use ner, pos"):
        Mixes.of(CONFIG, STORED, mixes=["ner", "srl"])


def test_no_graph_is_given_a_layer_norm_that_no_mix_has():
    assert Mixes.of(CONFIG, STORED[:1]).layer_norm is None


def test_word_vectors_need_no_output_of_the_bilm():
    assert request_of(["word_emb"]).graph_outputs(CONFIG) == ()


def test_layers_ask_for_every_contextual_layer():
    assert request_of(["layers"]).graph_outputs(CONFIG) == CONFIG.layer_names


def test_a_single_name_is_accepted():
    assert request_of("elmo").outputs == ("elmo",)


def test_a_name_given_twice_counts_once():
    assert request_of(["elmo", "elmo"]).outputs == ("elmo",)


@pytest.mark.parametrize(
    ("wish", "named"),
    [
        ({"outputs": ["elmo", "lstm_outputs4"]}, "'lstm_outputs4' does not exist"),
        ({"outputs": [3]}, "output 3"),
        ({"outputs": [["elmo"]]}, "does not exist"),
        ({"outputs": None}, "outputs is a NoneType"),
        ({"dtype": "float64"}, "dtype is float64"),
        ({"dtype": "half a float"}, "does not exist"),
        ({"dtype": object()}, "does not exist"),
        ({"mix_weights": [0, 0, 0]}, r"shape \(4,\)"),
        ({"mix_weights": [0, 0, 0, float("nan")]}, "finite"),
        ({"mix_weights": "abcd"}, "not numbers"),
        ({"mix_weights": [[1], [2, 3]]}, "not numbers"),
        ({"gamma": float("inf")}, "gamma"),
        ({"gamma": [1.0]}, "gamma"),
        ({"mixes": {}}, "must be a dict"),
        ({"mixes": {"": ([0] * 4, 1.0)}}, "must be a dict"),
        ({"mixes": {"ner": [0] * 4}}, "must be a dict"),
        ({"mixes": [([0] * 4, 1.0)]}, "must be a dict"),
        ({"mixes": {"ner": ([0] * 4, 1.0)}, "mix_weights": [0] * 4}, "cannot be combined"),
        ({"mixes": {"ner": ([0] * 4, 1.0)}, "gamma": 2.0}, "cannot be combined"),
        ({"mix": "ner"}, "mix 'ner' does not exist; the bundle stores no mixes"),
        ({"mixes": ["ner"]}, "mix 'ner' does not exist"),
        ({"mixes": [3]}, "must be a dict"),
        ({"mixes": "ner"}, "must be a dict"),
        ({"mix": "ner", "mix_weights": [0] * 4}, "mix cannot be combined with mix_weights"),
        ({"gamma": 1e300}, "gamma is 1e"),
        ({"gamma": -3e38}, r"gamma is -3e\+38, must be within 1e\+06 of 0"),
        ({"mixes": {"ner": ([0] * 4, 1.1e6)}}, r"gamma ner is 1100000\.0"),
    ],
)
def test_a_wrong_argument_is_named(wish, named):
    """A gamma next to mixes was ignored; a number beyond float32 gave a warning of numpy."""
    with pytest.raises(InputError, match=named):
        request_of(**wish)


def test_numpy_types_are_accepted():
    assert request_of(dtype=np.float16, gamma=np.float64(2)).dtype == np.float16
