"""The compiled operators: the same vectors as the stock graph, whatever the threads and mates."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from elmo_export.cases import batch_changes, parity_cases
from elmo_export.graph import build_joined
from elmo_export.panels import as_matrix, in_panels
from elmo_export.precision import FP32, Int8
from elmo_export.recover import recover_checkpoint
from elmo_export.sessions import load_onnxruntime, operators_are_usable, run_session
from elmo_runtime import Embedder, operators
from random_models import random_checkpoint, tiny_config

needs_operators = pytest.mark.skipif(
    not operators_are_usable(), reason="the operators are not built, or this processor lacks AVX2"
)
SIZES = {"projection_dim": 32, "lstm_dim": 112}
FORMATS = {
    "fp32": ("PackedLstmpFp32", FP32),
    "int8": ("PackedLstmpInt8", Int8()),
    "int8, projections kept": ("PackedLstmpInt8Fp32", None),
}


@pytest.fixture(scope="module", params=[{}, {"cell_clip": None, "proj_clip": None}])
def checkpoint(request):
    return random_checkpoint(tiny_config(**SIZES, **request.param))


@pytest.fixture(params=FORMATS)
def model(request, checkpoint):
    _, precision = FORMATS[request.param]
    kept = [name for name in checkpoint.tensors if "projection_weight" in name]
    return build_joined(checkpoint, form="packed", precision=precision or Int8(kept))


def open_graph(model, *, threads=1, compiled=True, optimized=None):
    onnxruntime = load_onnxruntime()
    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads, settings.log_severity_level = threads, 3
    if compiled:
        assert operators.register_operators(settings) is None
    if optimized:
        settings.optimized_model_filepath = str(optimized)
    return onnxruntime.InferenceSession(model.SerializeToString(), settings)


def case_of(checkpoint, name="5x7"):
    return next(case for case in parity_cases(checkpoint.config) if case.name == name)


def same_bits(found, expected):
    return all(found[name].tobytes() == array.tobytes() for name, array in expected.items())


@needs_operators
@pytest.mark.parametrize("compiled", [True, False])
@pytest.mark.parametrize("name", FORMATS)
def test_the_operator_takes_the_place_of_the_loop(name, compiled, tmp_path):
    operator, precision = FORMATS[name]
    checkpoint = random_checkpoint(tiny_config(**SIZES))
    kept = [weight for weight in checkpoint.tensors if "projection_weight" in weight]
    model = build_joined(checkpoint, form="packed", precision=precision or Int8(kept))
    open_graph(model, compiled=compiled, optimized=tmp_path / "optimized.onnx")
    optimized = onnx.load(tmp_path / "optimized.onnx")
    found = [node.op_type for node in optimized.graph.node]
    assert found.count(operator) == (2 if compiled else 0)
    assert found.count("Loop") == (0 if compiled else 2)


@needs_operators
def test_it_gives_the_vectors_of_the_stock_graph(checkpoint, model):
    inputs = case_of(checkpoint).inputs
    stock = run_session(open_graph(model, compiled=False), inputs)
    for name, found in run_session(open_graph(model), inputs).items():
        # int8 activations of the stock graph have seven bits, those of the operator up to 16.
        tolerance = 5e-2 if b"PackedLstmpInt8" in model.SerializeToString() else 2e-6
        np.testing.assert_allclose(found, stock[name], atol=tolerance, err_msg=name)


@needs_operators
@pytest.mark.parametrize("threads", [2, 3, 5])
def test_threads_leave_every_bit(checkpoint, model, threads):
    inputs = case_of(checkpoint).inputs
    expected = run_session(open_graph(model), inputs)
    assert same_bits(run_session(open_graph(model, threads=threads), inputs), expected)


@needs_operators
def test_order_padding_and_batch_mates_leave_every_bit(checkpoint, model):
    case, session = case_of(checkpoint), open_graph(model)
    whole = run_session(session, case.inputs)["lstm_outputs2"]
    for changed, numbers in batch_changes(case):
        found = run_session(session, changed.inputs)["lstm_outputs2"]
        for row, number in enumerate(numbers):
            length = changed.inputs["lengths"][row]
            assert found[row, :length].tobytes() == whole[number, :length].tobytes()


@needs_operators
def test_every_number_of_rows_has_its_kernel(checkpoint, model):
    """1 to 6 rows, of which each has a kernel of its own, and more, which are cut in blocks."""
    inputs = case_of(checkpoint).inputs
    session = open_graph(model)
    one = run_session(session, {name: repeated(value, name, 1) for name, value in inputs.items()})
    for count in range(2, 16):
        many = {name: repeated(value, name, count) for name, value in inputs.items()}
        found = run_session(session, many)["elmo"]
        for sentence in range(count):
            assert found[:, sentence].tobytes() == one["elmo"][:, 0].tobytes(), count


def repeated(value, name, count):
    """An input of the first sentence, `count` times."""
    if name in ("mix_weights", "gamma"):
        return value
    axis = 2 if name.startswith("initial") else 0
    return np.repeat(np.take(value, [0], axis), count, axis)


def hostile_model(rows, counts):
    """One node alone, whose inputs do not fit each other: 3 products, a batch of 2."""
    generator = np.random.default_rng(0)
    arrays = {
        "p0": generator.normal(size=(3, 64)), "p1": generator.normal(size=(3, 64)),
        "r0": np.array(rows), "r1": np.array(rows), "n": np.array(counts),
        "h0": np.zeros((2, 16)), "h1": np.zeros((2, 16)),
        "c0": np.zeros((2, 16)), "c1": np.zeros((2, 16)),
        "w0": np.zeros((4, 16, 16, 1)), "w1": np.zeros((4, 16, 16, 1)),
        "v0": np.zeros((1, 16, 16, 1)), "v1": np.zeros((1, 16, 16, 1)),
    }  # fmt: skip
    arrays = {
        name: array.astype(np.int64 if name[0] in "rn" else np.float32)
        for name, array in arrays.items()
    }
    outputs = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, None)
        for name in ("y0", "y1", "d0", "d1")
    ]
    node = helper.make_node(
        "PackedLstmpFp32", list(arrays), [value.name for value in outputs], domain="elmo_deploy",
        cell_clip=3.0, proj_clip=3.0, h_range=3.0,
    )  # fmt: skip
    initializers = [onnx.numpy_helper.from_array(array, name) for name, array in arrays.items()]
    graph = helper.make_graph([node], "hostile", [], outputs, initializer=initializers)
    domains = [helper.make_opsetid("", 18), helper.make_opsetid("elmo_deploy", 1)]
    return helper.make_model(graph, opset_imports=domains, ir_version=10)


@needs_operators
@pytest.mark.parametrize(
    ("rows", "counts", "message"),
    [
        ([0, 1, 3], [2, 1], "a row has no product"),
        ([0, 1, -1], [2, 1], "a row has no product"),
        ([0, 1, 2], [3], "counts must fall"),
        ([0, 1, 2], [1, 2], "counts must fall"),
        ([0, 1, 2], [2, 2], "counts must sum"),
    ],
)
def test_a_graph_that_would_read_beyond_its_inputs_is_refused(rows, counts, message):
    with pytest.raises(Exception, match=message):
        open_graph(hostile_model(rows, counts)).run(None, {})


@needs_operators
def test_a_state_without_size_is_refused():
    """The int8 step was divided by the size, and 0 would have ended the process."""
    model = hostile_model([0, 1, 2], [2, 1])
    for tensor in model.graph.initializer:
        if tensor.name in ("h0", "h1"):
            tensor.CopyFrom(onnx.numpy_helper.from_array(np.zeros((2, 0), np.float32), tensor.name))
    with pytest.raises(Exception, match="sizes must be multiples"):
        open_graph(model).run(None, {})


ODD_SHAPES = {
    "rows without elements": ("r0", (3, 0)),
    "rows of rank 3": ("r1", (1, 1, 3)),
    "counts of rank 2": ("n", (1, 2)),
    "products of rank 3": ("p0", (3, 64, 1)),
    "products of rank 1": ("p1", (192,)),
    "h of rank 1": ("h0", (32,)),
    "c of rank 3": ("c1", (2, 16, 1)),
    "c without elements": ("c0", (2, 16, 0)),
    "a weight of rank 1": ("w0", (1024,)),
    "a projection of rank 5": ("v1", (1, 16, 16, 1, 1)),
}


@needs_operators
@pytest.mark.parametrize(("name", "shape"), ODD_SHAPES.values(), ids=ODD_SHAPES)
def test_every_input_has_its_number_of_axes(name, shape):
    """`rows` without elements but with a first axis, or of rank 3, ended the process."""
    model = hostile_model([0, 1, 2], [2, 1])
    for tensor in model.graph.initializer:
        if tensor.name == name:
            array = np.resize(onnx.numpy_helper.to_array(tensor), shape)
            tensor.CopyFrom(onnx.numpy_helper.from_array(array, name))
    with pytest.raises(Exception, match="another number of axes"):
        open_graph(model).run(None, {})


@needs_operators
def test_int8_refuses_a_state_that_it_would_cut_off():
    """A state beyond the clip was silently clamped by the int8 form."""
    checkpoint = random_checkpoint(tiny_config(**SIZES))
    session = open_graph(build_joined(checkpoint, form="packed", precision=Int8()))
    inputs = dict(case_of(checkpoint).inputs)
    inputs["initial_h"] = np.full_like(inputs["initial_h"], checkpoint.config.proj_clip * 1.01)
    with pytest.raises(Exception, match="beyond what the model can reach"):
        run_session(session, inputs)


@needs_operators
def test_the_same_node_with_fitting_inputs_runs():
    y = open_graph(hostile_model([0, 1, 2], [2, 1])).run(None, {})[0]
    assert y.shape == (3, 16)


@pytest.fixture(scope="module")
def wide_bundle(tmp_path_factory):
    from elmo_deploy.model.reference import reference
    from elmo_export import export_bundle

    checkpoint = random_checkpoint(tiny_config(**SIZES))
    path = tmp_path_factory.mktemp("wide") / "bundle"
    export_bundle(
        checkpoint, path, reference=reference(checkpoint), forms=["packed"],
        precisions=["fp32", "int8"],
    )  # fmt: skip
    return checkpoint, path


@needs_operators
def test_both_ways_are_verified_at_export(wide_bundle):
    from elmo_runtime import Bundle

    graphs = {row["graph"] for row in Bundle.open(wide_bundle[1]).manifest.parity}
    assert {"packed", "packed compiled"} <= graphs


@needs_operators
def test_the_embedder_takes_it_unless_told_otherwise(wide_bundle):
    sentences = ["the cat is on the mat", "dogs are in the fog"]
    vectors = {}
    for compiled in (True, False):
        with Embedder.load(wide_bundle[1], compiled_operators=compiled) as elmo:
            vectors[compiled] = elmo.embed(sentences)["elmo"][0]
    np.testing.assert_allclose(vectors[True], vectors[False], atol=2e-6)
    assert vectors[True].tobytes() != vectors[False].tobytes()


def test_without_the_library_the_stock_graph_computes(wide_bundle, monkeypatch, tmp_path, caplog):
    with Embedder.load(wide_bundle[1], compiled_operators=False) as elmo:
        expected = elmo.embed(["a b c"])["elmo"][0]
    monkeypatch.setattr(operators, "LIBRARY", tmp_path / "missing.so")
    caplog.set_level("INFO", "elmo_runtime.backends.onnxruntime")
    with Embedder.load(wide_bundle[1]) as elmo:
        assert elmo.embed(["a b c"])["elmo"][0].tobytes() == expected.tobytes()
    assert "runs on stock operators: the compiled ones are not built" in caplog.text


def test_a_checkpoint_comes_back_from_panels_bit_for_bit(wide_bundle):
    from elmo_runtime import Bundle

    checkpoint, path = wide_bundle
    found = recover_checkpoint(Bundle.open(path)).tensors
    assert same_bits(found, {name: checkpoint.tensors[name] for name in found})


@pytest.mark.parametrize("dtype", [np.float32, np.int8])
def test_panels_keep_every_number_in_its_place(dtype):
    matrix = np.arange(6 * 32).reshape(6, 32).astype(dtype)
    panels = in_panels(matrix)
    assert panels.shape == ((2, 3, 16, 2) if dtype == np.int8 else (2, 6, 16, 1))
    np.testing.assert_array_equal(as_matrix(panels), matrix)
