"""Exported bundles reproduce the golden vectors and the oracle on ONNX Runtime's CPU."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from elmo_deploy.importers.bilm_hdf5 import import_hdf5
from elmo_deploy.model.reference import reference
from elmo_export import export_bundle
from elmo_runtime import Embedder
from elmo_runtime.options import CpuOptions
from golden import GOLDEN
from oracle_cases import (
    BATCHES,
    GAMMA,
    MIX_WEIGHTS,
    MODELS,
    expected_outputs,
    largest_difference,
)
from random_models import clipped_checkpoint, random_checkpoint, tiny_config
from tolerances import BUNDLE_FLOAT32, GOLDEN_BUNDLE

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def embedder_of(tmp_path):
    """Checkpoint -> its bundle, opened so that each row continues from the previous call."""
    opened = []

    def open_bundle(checkpoint, forms=("padded", "packed")):
        path = tmp_path / f"bundle{len(opened)}"
        export_bundle(checkpoint, path, reference=reference(checkpoint), forms=forms)
        embedder = Embedder.load(
            path, backend="onnxruntime-cpu", state="carry", cpu=CpuOptions(threads=1)
        )
        opened.append(embedder)
        return embedder

    yield open_bundle
    for embedder in opened:
        embedder.close()


@pytest.mark.parametrize("form", ["packed", "padded"])
@pytest.mark.parametrize("golden", GOLDEN, ids=lambda golden: golden.folder)
def test_the_bundle_reproduces_the_golden_vectors(golden, form, shared_data, embedder_of):
    embedder = embedder_of(import_hdf5(*golden.files(shared_data)), forms=(form,))
    errors = []
    steps = zip(golden.batches(shared_data), golden.top_layers(shared_data), strict=True)
    for batch, expected in steps:
        found = embedder.embed(batch, outputs="lstm_outputs2")["lstm_outputs2"]
        errors += [np.abs(found[row] - vectors).max() for row, vectors in expected.items()]
    assert len(errors) == 10 * len(golden.rows)
    assert max(errors) <= GOLDEN_BUNDLE


def bundle_outputs(embedder, batches):
    """The bundle's outputs for the last batch, by the names of the graphs' outputs."""
    n_layers = embedder.config.n_layers + 1
    mixes = {
        f"mix{number}": (weights[:n_layers].tolist(), float(gamma))
        for number, (weights, gamma) in enumerate(zip(MIX_WEIGHTS, GAMMA, strict=True))
    }
    names = ["word_emb", *embedder.config.layer_names]
    for batch in batches:
        out = embedder.embed(batch, outputs=[*names, "elmo", "default"], mixes=mixes)
    return {
        **{name: out.padded(name) for name in names},
        "elmo": np.stack([out.padded(f"elmo:{mix}") for mix in mixes]),
        "default": np.stack([out[f"default:{mix}"] for mix in mixes]),
        "final_h": out.state.h,
        "final_c": out.state.c,
    }


@pytest.mark.parametrize("changes", MODELS.values(), ids=MODELS)
def test_every_output_of_the_bundle_equals_the_oracle(changes, embedder_of, oracle_of):
    checkpoint = random_checkpoint(tiny_config(**changes), seed=1)
    expected = expected_outputs(oracle_of(checkpoint), BATCHES)
    found = bundle_outputs(embedder_of(checkpoint), BATCHES)
    assert largest_difference(found, expected) <= BUNDLE_FLOAT32


def test_clips_that_bind_often_bind_in_the_bundle(embedder_of, oracle_of):
    model = oracle_of(clipped_checkpoint())
    expected = expected_outputs(model, BATCHES)
    found = bundle_outputs(embedder_of(clipped_checkpoint()), BATCHES)
    assert largest_difference(found, expected) <= BUNDLE_FLOAT32
    assert model.clipped.share("cell_clip") > 0.05
    assert model.clipped.share("proj_clip") > 0.05


@pytest.mark.parametrize("which", ["cell_clip", "proj_clip"])
def test_a_bundle_without_one_of_the_clips_is_detected(which, embedder_of, oracle_of):
    right = clipped_checkpoint()
    faulty = replace(right, config=replace(right.config, **{which: None}))
    expected = expected_outputs(oracle_of(right), BATCHES)
    found = bundle_outputs(embedder_of(faulty), BATCHES)
    assert largest_difference(found, expected) > 1000 * BUNDLE_FLOAT32
