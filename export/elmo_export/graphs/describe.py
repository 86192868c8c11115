"""The meanings of the inputs and outputs of every graph; see docs/reference/graphs.md."""

from __future__ import annotations

import onnx
from onnx import helper

from elmo_runtime.bundle.graph_contract import OPSET
from elmo_runtime.bundle.manifest import Graph, Tensor

MEANINGS = {
    "char_ids": "shifted character ids 1..261 of each token, 0 past each sentence",
    "word_vectors": "context-independent vectors of words",
    "word_index": "row of word_vectors for <S>, each token and </S>; 0 past the end",
    "lengths": "real tokens, without boundary tokens",
    "mix_weights": "weight of each layer before the softmax",
    "gamma": "scale of each mix",
    "layer_norm": "1 for a mix of layers normalized per sentence, else 0",
    "initial_h": "projected state before the first step of each direction",
    "initial_c": "cell state before the first step of each direction",
    "word_emb": "context-independent vectors of the tokens",
    "elmo": "gamma * sum of softmax(mix_weights) * layers",
    "default": "mean of elmo over real tokens",
    "final_h": "projected state after the last step of each direction",
    "final_c": "cell state after the last step of each direction",
}


def describe_graph(model: onnx.ModelProto, *, part: str, form: str, precision: str) -> Graph:
    """The entry of a graph in the manifest; the file is graphs/<part>.<form>.<precision>.onnx."""
    return Graph(
        part=part,
        form=form,
        precision=precision,
        file=f"graphs/{part}.{form}.{precision}.onnx",
        opset=OPSET,
        inputs=tuple(_tensor(value) for value in model.graph.input),
        outputs=tuple(_tensor(value) for value in model.graph.output),
    )


def _tensor(value: onnx.ValueInfoProto) -> Tensor:
    kind = value.type.tensor_type
    axes = tuple(axis.dim_param or axis.dim_value for axis in kind.shape.dim)
    dtype = helper.tensor_dtype_to_np_dtype(kind.elem_type).name
    return Tensor(value.name, dtype, axes, MEANINGS.get(value.name, "output of one biLM layer"))
