"""FP16 graphs, rewritten so that ONNX Runtime on the CPU rounds where a GPU does.

ONNX Runtime has no FP16 products on the CPU. It computes them in FP32 and drops the adjacent casts,
even without optimizations (1.32.0), so that it would round only weights and stored values.
"""

from __future__ import annotations

from collections.abc import Iterator

import onnx
from onnx import TensorProto, helper

COMPUTING = ("Conv", "GlobalMaxPool", "MatMul")  # all operators that the graphs use in FP16


def with_roundings(model: onnx.ModelProto) -> onnx.ModelProto:
    """The graph with every FP16 product as casts to FP32, an FP32 product and a cast to FP16.

    Sums are then exact to FP32, like those of tensor cores. The function changes `model`.
    """
    weights = [t.name for t in model.graph.initializer if t.data_type == TensorProto.FLOAT16]
    halves = set(weights)
    nodes = [_cast(name, _wide(name), TensorProto.FLOAT) for name in weights]
    nodes += _spelled_out(model.graph, halves, weights=frozenset(weights))
    _replace(model.graph, nodes)
    return model


def _spelled_out(
    graph: onnx.GraphProto, halves: set[str], *, weights: frozenset[str]
) -> Iterator[onnx.NodeProto]:
    """Yield the nodes of a graph, and add its FP16 values to `halves`."""
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.GRAPH:
                body = list(_spelled_out(attribute.g, halves, weights=weights))
                _replace(attribute.g, body)
        if node.op_type not in COMPUTING or node.input[-1] not in halves:
            yield node
            continue
        for index, name in enumerate(node.input):
            node.input[index] = _wide(name) if name in weights else f"{node.name}/wide input"
            if name not in weights:
                yield _cast(name, node.input[index], TensorProto.FLOAT)
        (output,) = node.output
        node.output[0] = _wide(output)
        yield node
        yield _cast(_wide(output), output, TensorProto.FLOAT16)
        halves.add(output)


def _wide(name: str) -> str:
    return f"{name}/wide"


def _cast(source: str, target: str, to: int) -> onnx.NodeProto:
    return helper.make_node("Cast", [source], [target], name=f"{target}/cast", to=to)


def _replace(graph: onnx.GraphProto, nodes: list[onnx.NodeProto]) -> None:
    copies = [onnx.NodeProto.FromString(node.SerializeToString()) for node in nodes]
    del graph.node[:]  # frees the previous nodes
    graph.node.extend(copies)
