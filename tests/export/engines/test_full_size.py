"""The published full size, 93.6 million random weights, compiled by TensorRT-RTX without a GPU."""

from __future__ import annotations

import json

import pytest

from elmo_export.engines.build import build_engine
from elmo_runtime.config import ElmoConfig
from engine_bundles import write_graphs
from random_models import random_checkpoint, tiny_config

pytest.importorskip("tensorrt_rtx", reason="tensorrt_rtx is not installed: no real engines")
pytestmark = pytest.mark.slow

BILM_WEIGHTS = 2 * 2 * (512 * 16384 + 512 * 16384 + 4096 * 512)  # layers, directions, matrices


@pytest.fixture(scope="module")
def graphs(tmp_path_factory):
    bundle = tmp_path_factory.mktemp("full") / "b"
    return write_graphs(random_checkpoint(full_size()), bundle, precision="fp16")


@pytest.mark.parametrize("compute_capability", ["8.6", "12.0"])
def test_the_full_size_is_compiled_as_intended(graphs, compute_capability, monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    report = build_engine(graphs, compute_capability=compute_capability, length=[(32, 32, 32)])
    encoder, bilm = (plan.layers for plan in report.engine.plans)
    print(json.dumps({"plans": [plan.bytes for plan in report.engine.plans], **bilm}))
    assert bilm["kernels_per_step"] <= 4
    # Only the convolutions are FP32: cuDNN has no FP16 plan for them.
    assert (bilm["fp32_products"], encoder["fp32_products"]) == (0, len(full_size().filters))
    assert (bilm["device_to_host_copies"], bilm["replicated_weights"]) == (0, 0)
    assert 2 * BILM_WEIGHTS <= bilm["weight_bytes"] < 2.01 * BILM_WEIGHTS  # stored once, in FP16
    assert bilm["activation_bytes"] < 8192 * 200_000  # 200 kB per position of the token budget


def full_size() -> ElmoConfig:
    """The options of the published original and 5.5B models."""
    filters = ((1, 32), (2, 32), (3, 64), (4, 128), (5, 256), (6, 512), (7, 1024))
    return tiny_config(
        projection_dim=512, lstm_dim=4096, char_embedding_dim=16, filters=filters, n_highway=2
    )
