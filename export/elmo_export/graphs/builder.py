"""Writes an ONNX graph node by node. It knows protobuf and names, and is independent of ELMo.

The same calls give the same bytes: names are numbered, never random, and nothing is traced.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from elmo_runtime.bundle.graph_contract import OPSET
from elmo_runtime.errors import CheckpointError

IR_VERSION = 10
MICROSOFT = "com.microsoft"  # ONNX Runtime's operators; only int8 graphs use them
PROTOBUF_LIMIT = 2**31 - 1

Value = str  # the name of a tensor inside a graph
Axes = Sequence[int | str]


class GraphBuilder:
    """One graph under construction. The body of a Scan or Loop sees values of its outer graph."""

    def __init__(self, name: str, *, outer: GraphBuilder | None = None) -> None:
        self.name = name
        self._nodes: list[onnx.NodeProto] = []
        self._inputs: list[onnx.ValueInfoProto] = []
        self._outputs: list[onnx.ValueInfoProto] = []
        self._scope = f"{name}/" if outer else ""
        # All weights are in the outermost graph, so that ONNX Runtime prepacks each of them once.
        self._initializers: dict[str, onnx.TensorProto] = outer._initializers if outer else {}

    def body(self, name: str) -> GraphBuilder:
        """A graph for the body of Scan or Loop, with the weights of this one."""
        return GraphBuilder(f"{self._scope}{name}", outer=self)

    def input(self, name: str, dtype: type[np.generic], axes: Axes) -> Value:
        """Declare an input; an axis is a size or the name of a free size."""
        value = f"{self._scope}{name}"
        self._inputs.append(_describe(value, dtype, axes))
        return value

    def output(self, name: str, value: Value, dtype: type[np.generic], axes: Axes) -> None:
        """Declare an output with the value `value`."""
        output = f"{self._scope}{name}"
        self._nodes.append(helper.make_node("Identity", [value], [output], name=output))
        self._outputs.append(_describe(output, dtype, axes))

    def initializer(self, name: str, array: NDArray[Any]) -> Value:
        """A named weight; a second call with the same name returns the first tensor."""
        if name not in self._initializers:
            self._initializers[name] = numpy_helper.from_array(_contiguous(array), name)
        return name

    def ints(self, *values: int) -> Value:
        """A constant vector of int64, the type of ONNX's shapes and axes."""
        return self.initializer("ints/" + "_".join(map(str, values)), np.array(values, np.int64))

    def scalar(self, value: float, dtype: type[np.generic] = np.float32) -> Value:
        """A constant without axes."""
        return self.initializer(f"{np.dtype(dtype).name}/{value!r}", np.array(value, dtype))

    def op(self, op_type: str, *inputs: Value, **attributes: Any) -> Value:
        """Append a node with one output."""
        return self.ops(op_type, *inputs, n_outputs=1, **attributes)[0]

    def ops(
        self, op_type: str, *inputs: Value, n_outputs: int, domain: str = "", **attributes: Any
    ) -> tuple[Value, ...]:
        """Append a node with several outputs."""
        name = f"{self._scope}{op_type}_{len(self._nodes)}"
        outputs = [name if n == 0 else f"{name}.{n}" for n in range(n_outputs)]
        node = helper.make_node(
            op_type, list(inputs), outputs, name=name, domain=domain, **attributes
        )
        self._nodes.append(node)
        return tuple(outputs)

    def cast(self, value: Value, dtype: type[np.generic]) -> Value:
        """The value, converted to another type."""
        return self.op("Cast", value, to=helper.np_dtype_to_tensor_dtype(np.dtype(dtype)))

    def size(self, value: Value, axis: int) -> Value:
        """The length of one axis, as a vector of one int64."""
        return self.op("Shape", value, start=axis, end=axis + 1)

    def shape(self, *sizes: Value | int) -> Value:
        """A shape from constants and from vectors of one int64."""
        parts = [self.ints(size) if isinstance(size, int) else size for size in sizes]
        return self.op("Concat", *parts, axis=0)

    def reshape(self, value: Value, *sizes: Value | int) -> Value:
        """The value in another shape; see `shape`."""
        constants = [size for size in sizes if isinstance(size, int)]
        if len(constants) == len(sizes):
            return self.op("Reshape", value, self.ints(*constants))
        return self.op("Reshape", value, self.shape(*sizes))

    def stack(self, values: Sequence[Value], *, axis: int) -> Value:
        """Values of equal shape on a new axis."""
        parts = [self.op("Unsqueeze", value, self.ints(axis)) for value in values]
        return self.op("Concat", *parts, axis=axis)

    def count(self, size: Value) -> Value:
        """0, 1, ... size - 1, where size is a vector of one int64."""
        zero, one = self.scalar(0, np.int64), self.scalar(1, np.int64)
        return self.op("Range", zero, self.op("Squeeze", size), one)

    def subgraph(self) -> onnx.GraphProto:
        """The finished body of a Scan or Loop."""
        return helper.make_graph(self._nodes, self.name, self._inputs, self._outputs)

    def model(self) -> onnx.ModelProto:
        """The finished model. Raises CheckpointError if protobuf cannot hold its weights."""
        size = sum(len(tensor.raw_data) for tensor in self._initializers.values())
        check_size(self.name, size)
        graph = helper.make_graph(
            self._nodes,
            self.name,
            self._inputs,
            self._outputs,
            initializer=list(self._initializers.values()),
        )
        return helper.make_model(
            graph,
            opset_imports=_domains(graph.node),
            ir_version=IR_VERSION,
            producer_name="elmo-deploy",
        )


def check_size(name: str, size: int) -> None:
    """Raise CheckpointError for a graph whose weights do not fit into one ONNX file."""
    if size > PROTOBUF_LIMIT - 2**20:  # nodes and names take far less than 1 MiB
        raise CheckpointError(
            f"graph {name} has {size} bytes of weights; an ONNX file holds fewer than"
            f" {PROTOBUF_LIMIT}",
            hint="export this model in fp16",
        )


def _describe(name: str, dtype: type[np.generic], axes: Axes) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(
        name, helper.np_dtype_to_tensor_dtype(np.dtype(dtype)), list(axes)
    )


def _contiguous(array: NDArray[Any]) -> NDArray[Any]:
    return array if array.ndim == 0 else np.ascontiguousarray(array)


def _domains(nodes: Iterable[onnx.NodeProto]) -> list[onnx.OperatorSetIdProto]:
    """The versions of the standard operators and of other domains that the nodes use."""
    used = sorted({node.domain for node in _all_nodes(nodes)} - {""})
    return [helper.make_opsetid("", OPSET), *(helper.make_opsetid(name, 1) for name in used)]


def _all_nodes(nodes: Iterable[onnx.NodeProto]) -> Iterator[onnx.NodeProto]:
    for node in nodes:
        yield node
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.GRAPH:
                yield from _all_nodes(attribute.g.node)
