"""An FP16 graph is compared with the roundings of a GPU, which the CPU omits."""

import numpy as np
import onnx

from elmo_export.graphs.build import build_joined
from elmo_export.graphs.builder import GraphBuilder
from elmo_export.graphs.weight_formats import Fp16Weights, Weight
from elmo_export.verify.cases import text_case
from elmo_export.verify.fp16_rounding import with_roundings


def drawn(*shape):
    return np.random.default_rng(0).standard_normal(shape, np.float32)


def halved(array):
    return array.astype(np.float16).astype(np.float32)


def product_graph(weight):
    graph = GraphBuilder("product")
    x = graph.input("x", np.float32, ("rows", len(weight)))
    y = Fp16Weights().product(graph, x, Weight("w", weight))
    graph.output("y", y, np.float32, ("rows", weight.shape[1]))
    return graph.model()


def test_inputs_weights_and_products_are_rounded(session_of):
    """ONNX Runtime 1.32 drops the casts next to a product, so that it rounded only the weights."""
    x, weight = drawn(5, 16), drawn(16, 8)
    (y,) = session_of(with_roundings(product_graph(weight))).run(None, {"x": x})
    assert np.array_equal(y, halved(halved(x) @ halved(weight)))


def test_every_product_of_a_model_is_rounded(tiny_checkpoint, session_of):
    """The recurrent products in the Scan count too: they double the distance from FP32."""
    model = with_roundings(build_joined(tiny_checkpoint, weight_format=Fp16Weights()))
    onnx.checker.check_model(model, full_check=True)
    typed = onnx.shape_inference.infer_shapes(model).graph
    assert not [node.name for graph in graphs_of(typed) for node in half_products(graph)]
    inputs = text_case(tiny_checkpoint.config).inputs
    assert all(np.isfinite(y).all() for y in session_of(model).run(None, inputs))


def graphs_of(graph):
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.GRAPH:
                yield from graphs_of(attribute.g)


def half_products(graph):
    """Products whose result is FP16."""
    types = {v.name: v.type.tensor_type.elem_type for v in graph.value_info}
    for node in graph.node:
        if node.op_type in ("Conv", "GlobalMaxPool", "MatMul"):
            assert types[node.output[0]] in (onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16)
            if types[node.output[0]] == onnx.TensorProto.FLOAT16:
                yield node
