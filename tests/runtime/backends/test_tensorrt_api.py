"""The names that the backend and the fake GPU use exist in NVIDIA's own packages."""

from __future__ import annotations

import ast
import enum
import inspect
from pathlib import Path

import pytest

import fake_gpu
from elmo_runtime.backends.tensorrt import cuda
from fake_gpu import FakeCudart, FakeTensorRt

FAKE_CLASSES = (
    fake_gpu.Runtime,
    fake_gpu.ICudaEngine,
    fake_gpu.IExecutionContext,
    fake_gpu.IRuntimeConfig,
)
# Members of the fake classes that only the tests use.
OWN = {"module", "logger", "sizes", "session", "axes", "outputs", "halves", "names", "strategy"}


@pytest.fixture(scope="module")
def cudart():
    return pytest.importorskip("cuda.bindings.runtime", reason="cuda-bindings is not installed")


@pytest.fixture(scope="module", params=["tensorrt", "tensorrt_rtx"])
def library(request):
    return pytest.importorskip(request.param, reason=f"{request.param} is not installed")


def cuda_names(owner):
    return sorted(name for name in vars(owner) if name.startswith("cuda"))


@pytest.mark.parametrize("name", cuda_names(FakeCudart))
def test_the_fake_cuda_is_called_like_the_real_one(cudart, name):
    fake, real = getattr(FakeCudart, name), getattr(cudart, name)
    if isinstance(fake, enum.EnumMeta):
        for member in fake:
            assert int(getattr(real, member.name)) == member.value
            assert getattr(real, member.name).name == member.name
    elif inspect.isfunction(fake):
        signature = real.__doc__.splitlines()[0]
        parameters = [p for p in signature.partition("(")[2].rstrip(")").split(",") if p.strip()]
        assert len(parameters) == len(inspect.signature(fake).parameters) - 1, signature
    else:
        assert int(real) == fake


def test_every_cuda_name_of_the_source_exists(cudart):
    tree = ast.parse(Path(cuda.__file__).read_text("utf-8"))
    attributes = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    strings = {node.value for node in ast.walk(tree) if isinstance(node, ast.Constant)}
    used = {
        name
        for name in attributes | strings
        if isinstance(name, str) and name.startswith("cuda") and name.isidentifier()
    }
    kinds = ("cudaError_t", "cudaMemcpyKind", "cudaDeviceAttr", "cudaStreamCaptureMode")
    owners = [cudart, *(getattr(cudart, kind) for kind in kinds)]
    assert len(used) > 25
    assert not [name for name in used if not any(hasattr(owner, name) for owner in owners)]


@pytest.mark.parametrize("fake", FAKE_CLASSES, ids=lambda fake: fake.__name__)
def test_the_fake_tensorrt_has_no_method_of_its_own(library, fake):
    real = getattr(library, fake.__name__)
    names = {name for name in vars(fake) if not name.startswith("_")} - OWN
    assert names and not [name for name in names if not hasattr(real, name)]


def test_the_strategies_exist(library):
    fake = FakeTensorRt(FakeCudart())
    for member in fake.ExecutionContextAllocationStrategy.__members__:
        assert hasattr(library.ExecutionContextAllocationStrategy, member)
    if library.__name__ == "tensorrt_rtx":
        assert hasattr(library.DynamicShapesKernelSpecializationStrategy, "EAGER")


def test_severities_have_names(library):
    """The logger reads the severity from the text of the enum."""
    for severity in fake_gpu.ILogger.Severity:
        assert str(getattr(library.ILogger.Severity, severity.name)) == str(severity)
