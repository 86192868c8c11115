"""Which engine is opened, which is not and why, and the fallback."""

from __future__ import annotations

import shutil
import sys
from types import SimpleNamespace

import pytest

import fake_gpu
from elmo_runtime.backends.base import BackendOptions
from elmo_runtime.backends.chain import BackendChain
from elmo_runtime.backends.tensorrt import library as trt_library
from elmo_runtime.backends.tensorrt.backend import open_tensorrt
from elmo_runtime.backends.tensorrt.library import (
    Message,
    first_error,
    opening_error,
    without_noise,
)
from elmo_runtime.bundle.engines import read_engine
from elmo_runtime.bundle.manifest import Bundle
from elmo_runtime.embedder import Embedder
from elmo_runtime.errors import (
    BackendFallbackWarning,
    BackendUnavailableError,
    DeviceMemoryError,
    EngineError,
    EngineMismatchError,
)
from engine_bundles import write_fake_engine, write_graphs
from fake_gpu import FakeCudart, FakeTensorRt, cudaError_t


@pytest.fixture(scope="module")
def graphs(tiny_checkpoint, tmp_path_factory):
    return write_graphs(tiny_checkpoint, tmp_path_factory.mktemp("graphs") / "b", precision="fp32")


@pytest.fixture
def gpu(monkeypatch, tmp_path):
    cudart = FakeCudart()
    tensorrt = FakeTensorRt(cudart)
    opened = []
    deserialize = fake_gpu.Runtime.deserialize_cuda_engine

    def watch(runtime, plan):
        opened.append(plan)
        return deserialize(runtime, plan)

    monkeypatch.setattr(fake_gpu.Runtime, "deserialize_cuda_engine", watch)
    monkeypatch.setitem(sys.modules, "cuda.bindings.runtime", cudart)
    monkeypatch.setitem(sys.modules, "tensorrt", tensorrt)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    trt_library._load.cache_clear()
    yield SimpleNamespace(cudart=cudart, tensorrt=tensorrt, opened=opened)
    trt_library._load.cache_clear()


@pytest.fixture
def bundle(graphs, gpu, tmp_path):
    return shutil.copytree(graphs, tmp_path / "bundle")


def open_it(bundle, precision="auto", **options):
    return open_tensorrt(Bundle.open(bundle), precision, BackendOptions(**options))


def no_engine(bundle, gpu, monkeypatch):
    return BackendUnavailableError, "holds no engine"


def untrusted(bundle, gpu, monkeypatch):
    write_fake_engine(bundle, trusted=False)
    return EngineError, "is not trusted"


def other_version(bundle, gpu, monkeypatch):
    write_fake_engine(bundle, version="11.3.0")
    return EngineMismatchError, "11.3.0"


def other_gpu(bundle, gpu, monkeypatch):
    write_fake_engine(bundle, compute_capability="9.0")
    return EngineMismatchError, "9.0"


def no_library(bundle, gpu, monkeypatch):
    write_fake_engine(bundle)
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    return BackendUnavailableError, "tensorrt cannot be imported"


def no_cuda_bindings(bundle, gpu, monkeypatch):
    write_fake_engine(bundle)
    monkeypatch.setitem(sys.modules, "cuda.bindings.runtime", None)
    return BackendUnavailableError, "cuda.bindings cannot be imported"


def no_driver(bundle, gpu, monkeypatch):
    write_fake_engine(bundle)
    gpu.cudart.device_error = cudaError_t.cudaErrorInsufficientDriver
    return BackendUnavailableError, "cudaErrorInsufficientDriver"


def truncated_plan(bundle, gpu, monkeypatch):
    plan = write_fake_engine(bundle) / "plan-1.plan"
    plan.write_bytes(plan.read_bytes()[:-1])
    return EngineError, "engine.json says"


def changed_plan(bundle, gpu, monkeypatch):
    plan = write_fake_engine(bundle) / "plan-1.plan"
    plan.write_bytes(plan.read_bytes()[:-1] + b"\x7f")
    return EngineError, "SHA-256"


def malformed_description(bundle, gpu, monkeypatch):
    (write_fake_engine(bundle) / "engine.json").write_text("{}")
    return EngineError, "malformed"


NEVER_OPENED = [
    no_engine,
    untrusted,
    other_version,
    other_gpu,
    no_library,
    no_cuda_bindings,
    no_driver,
    truncated_plan,
    changed_plan,
    malformed_description,
]


@pytest.mark.parametrize("cause", NEVER_OPENED)
def test_a_cause_is_reported_with_its_fix_and_tensorrt_never_sees_the_plan(
    bundle, gpu, monkeypatch, cause
):
    error, text = cause(bundle, gpu, monkeypatch)
    before = len(gpu.opened)
    with pytest.raises(error, match=text) as caught:
        open_it(bundle)
    assert caught.value.hint
    # The plan before the damaged one is opened; the damaged one is not.
    assert len(gpu.opened) - before <= (1 if cause in (truncated_plan, changed_plan) else 0)


@pytest.mark.parametrize("cause", NEVER_OPENED)
def test_auto_falls_back_with_one_warning_where_an_engine_was_built(
    bundle, gpu, monkeypatch, cause, recwarn
):
    _, text = cause(bundle, gpu, monkeypatch)
    backend = BackendChain(Bundle.open(bundle), options=BackendOptions(threads=1)).open()
    assert backend.name == "onnxruntime-cpu"
    assert [str(warning.message) for warning in recwarn if text in str(warning.message)] == [
        str(warning.message) for warning in recwarn
    ]
    assert len(recwarn) == (0 if cause is no_engine else 1)
    assert all(warning.category is BackendFallbackWarning for warning in recwarn)
    backend.close()


def test_auto_takes_an_engine_that_runs(bundle, gpu):
    write_fake_engine(bundle)
    backend = BackendChain(Bundle.open(bundle)).open()
    assert (backend.name, backend.precision) == ("tensorrt", "fp32")
    backend.close()


def test_a_digest_from_the_caller_is_enough(bundle, gpu):
    _, digest = read_engine(write_fake_engine(bundle, trusted=False))
    open_it(bundle, trusted_engines=(digest,)).close()
    with pytest.raises(EngineError, match="is not trusted"):
        open_it(bundle, trusted_engines=("0" * 64,))


def test_the_embedder_takes_such_a_digest(bundle, gpu):
    """There was no way to pass one."""
    _, digest = read_engine(write_fake_engine(bundle, trusted=False))
    options = {"backend": "tensorrt", "self_check": False}
    Embedder.load(bundle, trusted_engines=[digest], **options).close()
    with pytest.raises(EngineError, match="is not trusted"):
        Embedder.load(bundle, **options)


def test_an_engine_that_cannot_run_does_not_hide_one_that_can(bundle, gpu):
    write_fake_engine(bundle, compute_capability="7.5")
    write_fake_engine(bundle, compute_capability="8.6")
    write_fake_engine(bundle, compute_capability="9.0")
    open_it(bundle).close()


def test_the_requested_precision_is_opened(bundle, gpu):
    write_fake_engine(bundle)
    assert open_it(bundle, "fp32").precision == "fp32"
    with pytest.raises(BackendUnavailableError, match="no engine of fp16"):
        open_it(bundle, "fp16")


def test_a_plan_of_other_tensors_is_refused(bundle, gpu, monkeypatch):
    write_fake_engine(bundle)
    monkeypatch.setattr(fake_gpu, "_vectors", lambda outputs: ["stranger"])
    with pytest.raises(EngineError, match=r"stranger\.float16"):
        open_it(bundle)


@pytest.mark.parametrize(
    ("said", "error"),
    [
        ("Serialization assertion plan.header.size == blobSize failed", EngineError),
        ("Cannot deserialize with an empty memory buffer", EngineError),
        (
            "Trying to load an engine created with incompatible serialization version (0 != 1)",
            EngineMismatchError,
        ),
        ("ScopedCudaStream (cudaError 35: CUDA driver version is insuf", BackendUnavailableError),
        ("Cuda Runtime (out of memory)", DeviceMemoryError),
        ("something new", EngineError),
    ],
)
def test_a_message_of_tensorrt_becomes_an_engine_error(said, error):
    noise = "[checkMacros.cpp::catchCudaError::250] Error Code 1: Cuda Runtime (cudaError 35: x))"
    messages = trt_library.Messages()
    with messages.heard() as heard:
        messages.put("ERROR", said)
        messages.put("ERROR", noise)
    assert type(opening_error("a.plan", heard)) is error


def test_the_line_of_machines_without_a_driver_is_dropped():
    noise = (
        "[checkMacros.cpp::catchCudaError::250] Error Code 1: Cuda Runtime (In catchCudaError at"
        " /_src/common/dispatch/checkMacros.cpp:250 (cudaError 35: CUDA driver version is"
        " insufficient for CUDA runtime version))"
    )
    assert without_noise(noise) == ""
    assert without_noise(f"Invalid Node - my_add\nwrong types\n{noise}") == (
        "Invalid Node - my_add\nwrong types"
    )


def test_an_error_is_one_line_without_positions_in_the_source():
    text = "API Usage Error (Network has dynamic inputs. In validate at /_src/api/network.cpp:4023)"
    error = first_error([Message("INFO", "hello"), Message("ERROR", text)])
    assert error == "API Usage Error (Network has dynamic inputs"
