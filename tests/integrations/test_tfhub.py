"""The callable of TF Hub's module, on the examples of its page."""

from __future__ import annotations

import numpy as np
import pytest

from elmo_deploy.integrations import tfhub as hub
from elmo_runtime.errors import InputError

TEXTS = ["the cat is on the mat", "dogs are in the fog"]
TOKENS = [["the", "cat", "is", "on", "the", "mat"], ["dogs", "are", "in", "the", "fog", ""]]
LENGTHS = [6, 5]


class EagerTensor:
    """A value with the method that TensorFlow's tensors have."""

    def __init__(self, value) -> None:
        self.value = np.asarray(value)

    def numpy(self):
        return self.value


@pytest.fixture(scope="module")
def elmo(tiny_bundle):
    with hub.Module(tiny_bundle, trainable=False, backend="onnxruntime-cpu") as module:
        yield module


def test_the_examples_of_the_page_run(elmo):
    """Padded rows of `tokens` could not be passed: "" counted as a token."""
    texts = elmo(TEXTS, signature="default", as_dict=True)
    inputs = {"tokens": TOKENS, "sequence_len": LENGTHS}
    tokens = elmo(inputs=inputs, signature="tokens", as_dict=True)
    assert texts.keys() == tokens.keys()
    for name, value in texts.items():
        np.testing.assert_array_equal(value, tokens[name])
    shapes = {name: value.shape for name, value in texts.items()}
    assert shapes == {
        "word_emb": (2, 6, 8),
        "lstm_outputs1": (2, 6, 16),
        "lstm_outputs2": (2, 6, 16),
        "elmo": (2, 6, 16),
        "default": (2, 16),
        "sequence_len": (2,),
    }
    assert texts["sequence_len"].tolist() == LENGTHS


def test_without_as_dict_the_output_is_default(elmo):
    np.testing.assert_array_equal(elmo(TEXTS), elmo(TEXTS, as_dict=True)["default"])


@pytest.mark.parametrize(
    "texts",
    [
        np.array(TEXTS),
        np.array(TEXTS, object),
        [text.encode() for text in TEXTS],
        np.array([text.encode() for text in TEXTS]),
        EagerTensor(np.array([text.encode() for text in TEXTS], object)),
    ],
    ids=["str", "object", "bytes", "S", "tensor"],
)
def test_texts_of_every_kind_are_taken(elmo, texts):
    np.testing.assert_array_equal(elmo(texts), elmo(TEXTS))


def test_the_signatures_of_a_loaded_module_take_tensors(elmo, tiny_bundle):
    with hub.load(tiny_bundle, backend="onnxruntime-cpu") as loaded:
        assert loaded.get_signature_names() == ["default", "tokens"]
        found = loaded.signatures["default"](EagerTensor(np.array(TEXTS, object)))["elmo"]
        tokens = EagerTensor(np.array(TOKENS, object))
        other = loaded.signatures["tokens"](tokens=tokens, sequence_len=EagerTensor(LENGTHS))
    np.testing.assert_array_equal(found, elmo(TEXTS, as_dict=True)["elmo"])
    np.testing.assert_array_equal(found, other["elmo"])


def test_the_width_of_tokens_is_kept(elmo):
    wide = [[*row, "", ""] for row in TOKENS]
    found = elmo({"tokens": wide, "sequence_len": LENGTHS}, signature="tokens", as_dict=True)
    assert found["elmo"].shape == (2, 8, 16) and not found["elmo"][:, 6:].any()


@pytest.mark.parametrize(
    ("inputs", "signature", "reason"),
    [
        (TEXTS, "other", "signature is 'other'"),
        (TOKENS, "default", "the texts have 2 dimensions"),
        ([1, 2], "default", "1 is a int, must be str or bytes"),
        ([b"\xff"], "default", "is not UTF-8"),
        ({"tokens": [["a"], ["b", "c"]], "sequence_len": [1, 2]}, "tokens", "different lengths"),
        (TOKENS, "tokens", "does not take tokens"),
        ({"tokens": TEXTS, "sequence_len": LENGTHS}, "tokens", "tokens has 1 dimensions"),
        ({"tokens": TOKENS, "sequence_len": [6]}, "tokens", "must be 2 integers"),
        ({"tokens": TOKENS, "sequence_len": [6.0, 5.0]}, "tokens", "must be 2 integers"),
        ({"tokens": TOKENS, "sequence_len": [7, 5]}, "tokens", "is 5..7 for rows of 6 tokens"),
        ({"tokens": TOKENS, "sequence_len": [6, -1]}, "tokens", "is -1..6 for rows"),
    ],
)
def test_wrong_inputs_are_named(elmo, inputs, signature, reason):
    with pytest.raises(InputError, match=reason.replace("(", r"\(")):
        elmo(inputs, signature=signature)


def test_a_trainable_module_is_refused(tiny_bundle):
    with pytest.raises(InputError, match="cannot be trained"):
        hub.Module(tiny_bundle, trainable=True)
