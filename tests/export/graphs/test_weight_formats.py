"""What fp16 and int8 store, how far their vectors are off, and what exceeds their range."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto

from elmo_deploy.model.reference import reference
from elmo_export.checkpoint import Checkpoint
from elmo_export.graphs.build import build_bilm, build_joined, build_token_encoder
from elmo_export.graphs.builder import GraphBuilder
from elmo_export.graphs.weight_formats import Fp16Weights, Int8Weights, Weight
from elmo_export.quantize.choose import choose_format
from elmo_export.quantize.ranges import kept_in_fp32
from elmo_export.verify.cases import sentence_inputs, trial_words
from elmo_export.verify.parity import deviation
from random_models import random_checkpoint, tiny_config


def scaled(checkpoint, **factors):
    """The checkpoint, with the tensors multiplied whose names contain a keyword."""
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
    graph = build(tiny_checkpoint, weight_format=Fp16Weights()).graph
    types = {t.name: t.data_type for t in graph.initializer if "weight" in t.name}
    assert types
    assert set(types.values()) == {TensorProto.FLOAT16}


def test_both_directions_share_one_product(tiny_checkpoint):
    graph = build_bilm(tiny_checkpoint, weight_format=Fp16Weights()).graph
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
def test_a_weight_beyond_the_range_stays_fp32_and_the_outputs_correct(part, session_of, sentences):
    checkpoint = scaled(random_checkpoint(tiny_config()), **{part: 1e6})
    kept = kept_in_fp32(checkpoint)
    assert TOO_LARGE[part] in kept
    exact = outputs_of(session_of(build_joined(checkpoint)), checkpoint, sentences)
    half = outputs_of(
        session_of(build_joined(checkpoint, weight_format=Fp16Weights(kept))), checkpoint, sentences
    )
    assert all(np.isfinite(array).all() for array in half.values())
    size = np.abs(exact["word_emb"]).max()
    assert np.abs(half["word_emb"] - exact["word_emb"]).max() < 0.01 * size


def test_without_the_fallback_the_outputs_are_wrong_but_finite(session_of, sentences):
    checkpoint = scaled(random_checkpoint(tiny_config()), convolutions=1e5)
    assert kept_in_fp32(checkpoint)
    half = session_of(build_joined(checkpoint, weight_format=Fp16Weights()))
    assert all(np.isfinite(x).all() for x in outputs_of(half, checkpoint, sentences).values())


def test_no_word_makes_an_infinite_vector(tiny_checkpoint, session_of):
    session = session_of(build_token_encoder(tiny_checkpoint, weight_format=Fp16Weights()))
    (vectors,) = session.run(None, {"char_ids": trial_words(tiny_checkpoint.config)})
    assert np.isfinite(vectors).all()


def test_int8_stores_every_matrix_in_eight_bits(tiny_checkpoint):
    graph = build_bilm(tiny_checkpoint, form="packed", weight_format=Int8Weights()).graph
    types = {t.name: t.data_type for t in graph.initializer if "weight" in t.name}
    assert {n for n, kind in types.items() if kind == TensorProto.INT8} == {
        f"{name}/int8" for name in tiny_checkpoint.tensors if "bilm" in name and "weight" in name
    }


def test_int8_hardly_rotates_vectors(tiny_checkpoint, session_of, sentences):
    exact = outputs_of(session_of(build_joined(tiny_checkpoint)), tiny_checkpoint, sentences)
    graph = build_joined(tiny_checkpoint, form="packed", weight_format=Int8Weights())
    small = outputs_of(session_of(graph), tiny_checkpoint, sentences)
    for name in exact:
        assert deviation(small[name], exact[name]).min_cosine > 0.998, name


def test_int8_products_never_saturate(session_of):
    """Processors without VNNI add two eight-bit products in 16 bits: 127 * 255 twice overflows."""
    width = 64
    graph = GraphBuilder("product")
    x = graph.input("x", np.float32, ("rows", width))
    weight = Weight("w", np.ones((width, 8), np.float32))
    graph.output("y", Int8Weights().product(graph, x, weight), np.float32, ("rows", 8))
    (y,) = session_of(graph.model()).run(None, {"x": np.ones((3, width), np.float32)})
    assert np.allclose(y, width, rtol=1e-5)


def test_a_row_of_zeros_stays_zero_in_int8(session_of):
    graph = GraphBuilder("product")
    x = graph.input("x", np.float32, ("rows", 4))
    weight = Weight("w", np.ones((4, 8), np.float32))
    graph.output("y", Int8Weights().product(graph, x, weight), np.float32, ("rows", 8))
    rows = np.array([[0, 0, 0, 0], [1, 2, 3, 4]], np.float32)
    (y,) = session_of(graph.model()).run(None, {"x": rows})
    assert (y[0] == 0).all()
    assert y[1] == pytest.approx(np.full(8, 10), rel=0.02)


def test_int8_keeps_the_weights_with_the_largest_error(tiny_checkpoint):
    """A row of weights that is a thousand times larger leaves no bits for the others."""
    tensors = dict(tiny_checkpoint.tensors)
    name = "bilm.forward_stack.layers.0.projection_weight"
    tensors[name] = tensors[name].copy()
    tensors[name][0] *= 1000
    uneven = Checkpoint(config=tiny_checkpoint.config, tensors=tensors)
    assert choose_format("int8", tiny_checkpoint, reference(tiny_checkpoint))[1] == {}
    kept = choose_format("int8", uneven, reference(uneven))[1]
    assert name in kept
    assert not any("input_weight" in name for name in kept)


def test_no_convolution_computes_in_fp16(tiny_checkpoint):
    """CuDNN has no FP16 plan for filters this narrow, and printed errors for every new shape."""
    model = build_token_encoder(tiny_checkpoint, weight_format=Fp16Weights())
    typed = onnx.shape_inference.infer_shapes(model).graph
    types = {value.name: value.type.tensor_type.elem_type for value in typed.value_info}
    types |= {tensor.name: tensor.data_type for tensor in typed.initializer}
    filters = [node.input[1] for node in typed.node if node.op_type == "Conv"]
    assert filters
    assert {types[name] for name in filters} == {TensorProto.FLOAT}
