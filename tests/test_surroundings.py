"""Settings of the caller for NumPy, torch, warnings and decimal change no result."""

from __future__ import annotations

import decimal
import warnings

import numpy as np
import pytest
import torch

from elmo_deploy.model import Elmo
from elmo_deploy.model.reference import reference
from elmo_export.export import export_bundle
from elmo_runtime import Embedder
from elmo_runtime.outputs import output_names


@pytest.fixture
def strict_numpy():
    """NumPy's underflow, overflow and invalid values are errors, and so is a rounded decimal."""
    with np.errstate(all="raise"), decimal.localcontext() as context:
        context.traps[decimal.Inexact] = True
        yield


@pytest.fixture(params=["float64", "float16", "device"])
def other_torch(request):
    """Another default dtype, or another default device."""
    if request.param == "device":
        torch.set_default_device("meta")
    else:
        torch.set_default_dtype(getattr(torch, request.param))
    yield
    torch.set_default_device(None)
    torch.set_default_dtype(torch.float32)


def test_export_and_embedding_take_strict_numpy(tiny_checkpoint, tmp_path, strict_numpy):
    """Rounding small weights or vectors to FP16 ended both with FloatingPointError: underflow."""
    bundle = tmp_path / "bundle"
    export_bundle(
        tiny_checkpoint,
        bundle,
        reference=reference(tiny_checkpoint),
        precisions=("fp32", "fp16", "int8"),
    )
    with Embedder.load(bundle, backend="onnxruntime-cpu") as elmo:
        names = output_names(elmo.config)
        for dtype in ("float16", "float32"):
            elmo.embed(["a b", "", "c" * 60], outputs=names, gamma=1e-6, dtype=dtype)
            elmo.embed(["a b"], mixes={"x": ([1e30, -1e30, 1e-40], 1e-40)}, dtype=dtype)


def test_the_reference_is_the_same_under_other_torch_defaults(
    tiny_checkpoint, tmp_path, other_torch
):
    """Under torch.set_default_dtype(float16) the reference was rounded and no export passed."""
    bundle = export_bundle(tiny_checkpoint, tmp_path / "b", reference=reference(tiny_checkpoint))
    assert bundle.manifest.parity


def test_a_model_keeps_its_weights_under_another_default_dtype(tiny_checkpoint):
    """The weights were rounded to the default dtype."""
    torch.set_default_dtype(torch.float16)
    try:
        model = Elmo.from_checkpoint(tiny_checkpoint)
    finally:
        torch.set_default_dtype(torch.float32)
    assert model.bilm.state_dict()
    assert all(tensor.dtype == torch.float32 for tensor in model.bilm.state_dict().values())


def test_warnings_may_be_errors(bundle):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with Embedder.load(bundle) as elmo:
            elmo.embed(["a b"], dtype="float16")


@pytest.fixture
def bundle(tiny_bundle):
    return tiny_bundle
