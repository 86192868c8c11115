"""The reader of ONNX weights agrees with the onnx package and rejects everything else."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from elmo_export.graphs.build import build_bilm, build_token_encoder
from elmo_runtime.backends.native.initializers import read_initializers
from elmo_runtime.errors import BundleVersionError


def model_of(*tensors):
    graph = helper.make_graph([], "graph", [], [], initializer=tensors)
    return onnx.ModelProto(graph=graph).SerializeToString()


def read(content):
    return read_initializers(content, name="graph.onnx")


@pytest.mark.parametrize("build", [build_token_encoder, build_bilm])
def test_it_reads_what_onnx_reads(tiny_checkpoint, build):
    model = build(tiny_checkpoint)
    found = read(model.SerializeToString())
    expected = {
        tensor.name: numpy_helper.to_array(tensor)
        for tensor in model.graph.initializer
        if tensor.data_type == TensorProto.FLOAT
    }
    assert found.keys() == expected.keys()
    assert all((found[name] == array).all() for name, array in expected.items())
    assert all(found[name].shape == array.shape for name, array in expected.items())


def test_other_types_are_skipped():
    tensors = [numpy_helper.from_array(np.ones(3, dtype), dtype) for dtype in ("int64", "float16")]
    assert read(model_of(*tensors)) == {}


def test_a_tensor_without_axes_is_read():
    tensor = numpy_helper.from_array(np.array(2.5, np.float32), "scalar")
    found = read(model_of(tensor))
    assert found["scalar"].shape == () and found["scalar"] == 2.5


@pytest.mark.parametrize("dims", [[3], [2**62, 4], [2**63 - 1], [0], [-1]])
def test_a_tensor_that_does_not_fill_its_shape_is_refused(dims):
    tensor = TensorProto(
        name="w", data_type=TensorProto.FLOAT, dims=dims, raw_data=np.ones(4, np.float32).tobytes()
    )
    with pytest.raises(BundleVersionError, match=r"w has shape .* and 16 bytes"):
        read(model_of(tensor))


def test_every_truncation_is_refused_or_reads_less():
    tensors = [numpy_helper.from_array(np.ones((2, n), np.float32), f"w{n}") for n in (1, 2, 3)]
    content = model_of(*tensors)
    for length in range(len(content)):
        try:
            found = read(content[:length])
        except BundleVersionError:
            continue
        assert len(found) < 3


@pytest.mark.parametrize("content", [b"\x3a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", b"\x3b"])
def test_a_file_that_is_not_a_model_is_refused(content):
    """A length of 2**63, and a wire type that does not exist."""
    with pytest.raises(BundleVersionError, match="export the checkpoint again"):
        read(content)


@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_changed_bytes_give_arrays_or_a_bundle_error(data):
    content = bytearray(model_of(numpy_helper.from_array(np.ones((2, 3), np.float32), "weight")))
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    try:
        found = read(bytes(content))
    except BundleVersionError:
        return
    assert all(array.dtype == np.float32 for array in found.values())


@settings(max_examples=200, deadline=None)
@given(content=st.binary(max_size=200))
def test_any_bytes_give_arrays_or_a_bundle_error(content):
    try:
        read(content)
    except BundleVersionError:
        return
