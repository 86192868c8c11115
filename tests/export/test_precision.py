"""What fp16 keeps, what it gives up, and what it does at the end of its range."""

import numpy as np
import pytest
from onnx import TensorProto

from elmo_export.cases import sentence_inputs, trial_words
from elmo_export.checkpoint import Checkpoint
from elmo_export.graph import build_bilm, build_joined, build_token_encoder
from elmo_export.precision import Fp16
from elmo_export.ranges import kept_in_fp32
from random_models import random_checkpoint, tiny_config


def scaled(checkpoint, **factors):
    """The checkpoint with every tensor whose name ends so multiplied."""
    tensors = {
        name: tensor * np.float32(next((f for end, f in factors.items() if end in name), 1))
        for name, tensor in checkpoint.tensors.items()
    }
    return Checkpoint(config=checkpoint.config, tensors=tensors)


def outputs_of(session, checkpoint, sentences):
    inputs = sentence_inputs(checkpoint.config, sentences)
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(None, inputs), strict=True))


def test_an_ordinary_model_keeps_nothing_in_fp32(tiny_checkpoint):
    assert kept_in_fp32(tiny_checkpoint) == {}


@pytest.mark.parametrize("build", [build_token_encoder, build_bilm])
def test_every_matrix_is_stored_in_fp16(build, tiny_checkpoint):
    graph = build(tiny_checkpoint, precision=Fp16()).graph
    types = {t.name: t.data_type for t in graph.initializer if "weight" in t.name}
    assert types
    assert set(types.values()) == {TensorProto.FLOAT16}


def test_both_directions_share_one_product(tiny_checkpoint):
    graph = build_bilm(tiny_checkpoint, precision=Fp16()).graph
    (scan, _) = [node for node in graph.node if node.op_type == "Scan"]
    body = next(attribute.g for attribute in scan.attribute if attribute.name == "body")
    assert [node.op_type for node in body.node].count("MatMul") == 2


TOO_LARGE = {
    "char_cnn.convolutions.0.weight": "char_cnn.convolutions.0.weight",
    "highways.0.transform.weight": "char_cnn.highways.0.transform.weight",
    "layers.1.recurrent_weight": "bilm.both_stacks.layers.1.recurrent_weight",
    "layers.0.input_weight": "bilm.both_stacks.layers.0.input_weight",
    "layers.0.projection_weight": "bilm.both_stacks.layers.0.projection_weight",
}


@pytest.mark.parametrize("part", TOO_LARGE)
def test_a_weight_beyond_the_range_stays_fp32_and_the_outputs_right(part, session_of, sentences):
    checkpoint = scaled(random_checkpoint(tiny_config()), **{part: 1e6})
    kept = kept_in_fp32(checkpoint)
    assert TOO_LARGE[part] in kept
    exact = outputs_of(session_of(build_joined(checkpoint)), checkpoint, sentences)
    half = outputs_of(
        session_of(build_joined(checkpoint, precision=Fp16(kept))), checkpoint, sentences
    )
    assert all(np.isfinite(array).all() for array in half.values())
    size = np.abs(exact["word_emb"]).max()
    assert np.abs(half["word_emb"] - exact["word_emb"]).max() < 0.01 * size


def test_without_the_fallback_the_outputs_are_wrong_but_finite(session_of, sentences):
    checkpoint = scaled(random_checkpoint(tiny_config()), convolutions=1e5)
    assert kept_in_fp32(checkpoint)
    half = session_of(build_joined(checkpoint, precision=Fp16()))
    assert all(np.isfinite(x).all() for x in outputs_of(half, checkpoint, sentences).values())


def test_no_word_makes_an_infinite_vector(tiny_checkpoint, session_of):
    session = session_of(build_token_encoder(tiny_checkpoint, precision=Fp16()))
    (vectors,) = session.run(None, {"char_ids": trial_words(tiny_checkpoint.config)})
    assert np.isfinite(vectors).all()
