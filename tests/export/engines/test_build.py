"""Real TensorRT-RTX engines, built without a GPU and compared with the compiler's layer list.

No engine runs: these tests show what was compiled, not what it computes or how fast.
"""

from __future__ import annotations

import hashlib
import json
import shutil

import onnx
import pytest

from elmo_deploy.importers.bilm_hdf5 import import_hdf5
from elmo_export.engines import tensorrt as trt_builder
from elmo_export.engines.build import build_engine, plan_rows
from elmo_export.engines.profiles import BUCKETS, LONGEST, TOKEN_BUDGET, default_profiles
from elmo_export.engines.target import choose_library
from elmo_runtime.backends.tensorrt.engine import open_engine
from elmo_runtime.bundle.engines import ENGINE_JSON, read_engine, read_plan
from elmo_runtime.bundle.manifest import Bundle
from elmo_runtime.bundle.trust import is_trusted
from elmo_runtime.errors import (
    BackendUnavailableError,
    EngineMismatchError,
    InputError,
)
from engine_bundles import write_graphs
from golden import GOLDEN
from random_models import random_checkpoint, tiny_config

rtx = pytest.importorskip("tensorrt_rtx", reason="tensorrt_rtx is not installed: no real engines")

pytestmark = pytest.mark.slow
LENGTHS = [(8, 8, 8), (32, 32, 32), (3, 16, 64)]
KERNELS_PER_STEP = 4  # GEMM, gates, GEMM, clip and store, for both directions


@pytest.fixture(scope="module", autouse=True)
def home(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_STATE_HOME", str(tmp_path_factory.mktemp("state")))
        yield


@pytest.fixture(scope="module")
def graphs(tiny_checkpoint, tmp_path_factory):
    return write_graphs(tiny_checkpoint, tmp_path_factory.mktemp("graphs") / "b", precision="fp16")


@pytest.fixture(scope="module")
def report(graphs):
    """An engine with two buckets and a plan of free length, for SM86."""
    return build_engine(graphs, compute_capability="8.6", length=LENGTHS)


def layers_of(report, name):
    plans = {plan.file: plan for plan in report.engine.plans}
    return plans[f"{name}.plan"].layers


def weight_bytes(graph: onnx.GraphProto) -> int:
    """Bytes of the matrices and kernels of a graph, as they are stored."""
    return sum(
        len(tensor.raw_data)
        for tensor in graph.initializer
        if sum(size > 1 for size in tensor.dims) >= 2
    )


@pytest.mark.parametrize("name", ["bilm-8", "bilm-32", "bilm-3-64"])
def test_a_time_step_is_four_kernels_for_both_directions(report, name):
    assert layers_of(report, name)["kernels_per_step"] <= KERNELS_PER_STEP


@pytest.mark.parametrize("name", ["token_encoder", "bilm-8", "bilm-32"])
def test_a_bucket_never_waits_for_the_host(report, name):
    assert layers_of(report, name)["device_to_host_copies"] == 0


def test_a_plan_of_free_length_waits_for_the_host(report):
    """Negative control: with a free length the number of steps is copied to the host."""
    assert layers_of(report, "bilm-3-64")["device_to_host_copies"] > 0


@pytest.mark.parametrize("name", ["bilm-8", "bilm-32", "bilm-3-64"])
def test_every_product_is_fp16_and_no_weight_is_copied_per_step(report, name):
    layers = layers_of(report, name)
    assert (layers["fp32_products"], layers["replicated_weights"]) == (0, 0)


def test_only_the_convolutions_of_the_token_encoder_are_fp32(report, tiny_checkpoint):
    """They are FP32 for cuDNN, from FP16 filters: this test still expected FP16 products."""
    layers, n_filters = layers_of(report, "token_encoder"), len(tiny_checkpoint.config.filters)
    assert (layers["fp32_products"], layers["replicated_weights"]) == (n_filters, n_filters)


@pytest.mark.parametrize(("name", "part"), [("bilm-32", "bilm"), ("token_encoder",) * 2])
def test_the_weights_are_stored_once_and_in_fp16(report, graphs, name, part):
    graph = onnx.load(graphs / "graphs" / f"{part}.padded.fp16.onnx").graph
    stored = weight_bytes(graph)
    # Biases, factors and the alignment of constants are extra; another copy would double the size.
    assert stored <= layers_of(report, name)["weight_bytes"] < 1.5 * stored


def test_a_float16_output_is_clipped_to_the_range_of_float16(graphs):
    """It was cast without a clip, so that a gamma of 1e5 gave infinite vectors."""
    library = choose_library("tensorrt-rtx", "8.6")
    graph = (graphs / "graphs" / "bilm.padded.fp16.onnx").read_bytes()
    with library.messages.heard() as messages:
        builder = trt_builder._builder(library, messages)
        network = trt_builder._parse(library, builder, graph, "bilm", messages)
        trt_builder._add_half_outputs(library, network, ["elmo", "default"])
    added = [network.get_layer(network.num_layers - back) for back in (4, 3, 2, 1)]
    assert [layer.type for layer in added] == [rtx.LayerType.ACTIVATION, rtx.LayerType.CAST] * 2
    assert [layer.get_input(0).name for layer in added[::2]] == ["elmo", "default"]
    for held, cast in (added[:2], added[2:]):
        assert cast.get_input(0).name == held.get_output(0).name


def test_building_again_gives_the_same_engine(report, graphs, tmp_path):
    """A plan with one input and one output has the same bytes.

    TensorRT-RTX 1.7 orders the tensors of other plans by their addresses in the builder's memory,
    so that only their size and layers agree. docs/guides/engines.md lists what was tried.
    """
    fresh = shutil.copytree(graphs, tmp_path / "b", ignore=shutil.ignore_patterns("engines"))
    again = build_engine(fresh, compute_capability="sm86", length=LENGTHS)
    assert again.built and again.folder.name == report.folder.name
    first, second = report.engine.plans, again.engine.plans
    assert first[0].part == "token_encoder" and first[0] == second[0]
    assert [(p.file, p.bytes, p.layers) for p in first] == [
        (p.file, p.bytes, p.layers) for p in second
    ]


def test_a_second_build_does_nothing(report, graphs):
    before = {path: path.stat().st_mtime_ns for path in report.folder.iterdir()}
    again = build_engine(graphs, compute_capability="8.6", length=LENGTHS)
    assert not again.built and again.engine == report.engine
    assert before == {path: path.stat().st_mtime_ns for path in report.folder.iterdir()}


def test_a_corrupt_engine_is_built_again(graphs, tmp_path):
    bundle = shutil.copytree(graphs, tmp_path / "b", ignore=shutil.ignore_patterns("engines"))
    first = build_engine(bundle, compute_capability="8.6", length=[(16, 16, 16)])
    plan = first.folder / "bilm-16.plan"
    plan.write_bytes(plan.read_bytes()[:-1])
    again = build_engine(bundle, compute_capability="8.6", length=[(16, 16, 16)])
    assert again.built and again.folder == first.folder
    assert [read_plan(again.folder, plan) for plan in again.engine.plans]


def test_an_engine_built_here_is_trusted_and_listed_with_its_digests(report):
    assert is_trusted(report.digest)
    engine, digest = read_engine(report.folder)
    assert digest == report.digest
    for plan in engine.plans:
        assert hashlib.sha256(read_plan(report.folder, plan)).hexdigest() == plan.sha256
    assert engine.name.startswith(f"tensorrt-rtx-{rtx.__version__}-sm86-")


def test_the_bundle_can_be_opened_with_its_engine(report, graphs):
    assert Bundle.open(graphs).precisions == ("fp16",)


def test_the_table_has_one_row_per_plan(report):
    rows = list(plan_rows(report))
    assert [row["plan"] for row in rows] == ["token_encoder", "bilm-8", "bilm-32", "bilm-3-64"]
    assert all(row["plan_bytes"] and row["activation_bytes"] for row in rows)


def test_sm120_is_built_on_the_same_machine(graphs):
    report = build_engine(graphs, compute_capability="12.0", length=[(32, 32, 32)])
    layers = layers_of(report, "bilm-32")
    assert layers["kernels_per_step"] <= KERNELS_PER_STEP and layers["fp32_products"] == 0
    assert "-sm120-" in report.folder.name


@pytest.mark.parametrize("golden", GOLDEN, ids=lambda golden: golden.folder)
@pytest.mark.parametrize("compute_capability", ["8.6", "12.0"])
def test_the_published_fixtures_are_compiled_as_well(
    golden, compute_capability, shared_data, tmp_path
):
    checkpoint = import_hdf5(*golden.files(shared_data))
    bundle = write_graphs(checkpoint, tmp_path / "b", precision="fp16")
    report = build_engine(bundle, compute_capability=compute_capability, length=[(32, 32, 32)])
    layers = layers_of(report, "bilm-32")
    assert layers["kernels_per_step"] <= KERNELS_PER_STEP
    assert (layers["fp32_products"], layers["device_to_host_copies"]) == (0, 0)


def test_the_layer_list_shows_fp32_products(tiny_checkpoint, tmp_path):
    """Negative control: in fp32 the count of FP32 products is not 0."""
    bundle = write_graphs(tiny_checkpoint, tmp_path / "b", precision="fp32")
    report = build_engine(bundle, precision="fp32", compute_capability="8.6", length=[(16, 16, 16)])
    assert layers_of(report, "bilm-16")["fp32_products"] > 0
    assert "allow_tf32" in json.loads((report.folder / ENGINE_JSON).read_text())["flags"]


@pytest.mark.parametrize(
    ("changes", "error", "text"),
    [
        ({"precision": "int8"}, InputError, "cannot be built in precision 'int8'"),
        ({"length": [(0, 0, 0)]}, InputError, "length 0:0:0"),
        ({"compute_capability": None}, InputError, "no NVIDIA GPU"),
        ({"compute_capability": "9.0"}, InputError, "no engines for compute capability 9.0"),
        ({"compute_capability": "fast"}, InputError, "'fast' is not a compute capability"),
        ({"compiler": "tensorrt"}, BackendUnavailableError, "tensorrt cannot be imported"),
        ({"length": [(1, 2, 3)]}, InputError, "length 1:2:3"),
        ({"length": [(64, 32, 64)]}, InputError, "length 64:32:64"),
        ({"length": [(16, 16, 16)] * 2}, InputError, "the same length"),
        ({"length": [(8, 64, 4096)], "batch": [(1, 8, 4096)]}, InputError, "4096 times 4096"),
        ({"length": [(8, 8, 8)]}, InputError, "no plan holds the 16 positions"),
        ({"length": LENGTHS, "batch": [(1, 1, 1)] * 2}, InputError, "2 batch ranges for 3"),
    ],
)
def test_a_wrong_argument_is_reported_before_the_build(graphs, changes, error, text):
    arguments = {"compute_capability": "8.6", **changes}
    with pytest.raises(error, match=text) as caught:
        build_engine(graphs, **arguments)
    assert caught.value.hint


def test_a_timing_cache_for_rtx_is_rejected(graphs, tmp_path):
    with pytest.raises(InputError, match="does nothing in TensorRT-RTX"):
        build_engine(
            graphs,
            compute_capability="8.6",
            length=[(16, 16, 16)],
            timing_cache=tmp_path / "timings",
        )
    assert not [name for name in (graphs / "engines").iterdir() if name.name.startswith(".")]


def test_an_engine_without_a_driver_is_an_environment_error(report, graphs):
    """The key, the digests and the library are correct; only the driver is missing."""
    with pytest.raises(BackendUnavailableError, match=r"driver|GPU"):
        open_engine(Bundle.open(graphs), "fp16")


def test_a_stale_engine_is_not_opened(report, tmp_path):
    other = random_checkpoint(tiny_config(), seed=1)
    bundle = write_graphs(other, tmp_path / "b", precision="fp16")
    shutil.copytree(report.folder, bundle / "engines" / report.folder.name)
    with pytest.raises(EngineMismatchError, match="built from another graphs/"):
        open_engine(Bundle.open(bundle), "fp16")


def test_no_default_plan_exceeds_the_token_budget():
    profiles = default_profiles()
    assert [sizes["marked_length"][2] for sizes in profiles] == [*BUCKETS, LONGEST]
    assert all(s["batch"][2] * s["marked_length"][2] <= TOKEN_BUDGET for s in profiles)


def test_a_specification_names_the_engine_that_is_built_from_it(report):
    """The engine to build was an Engine with plans of 0 bytes."""
    spec = report.engine.spec
    assert spec.name == report.engine.name == report.folder.name
    assert spec.built(report.engine.plans) == report.engine
    assert not any(hasattr(plan, "bytes") for plan in spec.plans)


def test_the_former_name_of_the_compiler_is_accepted_with_a_warning(report, graphs):
    with pytest.warns(DeprecationWarning, match="flavour is now called compiler"):
        again = build_engine(
            graphs, flavour="tensorrt-rtx", compute_capability="8.6", length=LENGTHS
        )
    assert again.folder == report.folder and not again.built
