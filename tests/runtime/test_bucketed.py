"""Padding to buckets bounds the number of shapes and changes no vector."""

from __future__ import annotations

import numpy as np
import onnxruntime
import pytest

from elmo_runtime.backends.base import BackendOptions
from elmo_runtime.backends.bucketed import Buckets, bucket
from elmo_runtime.backends.onnxruntime import backend as ort
from elmo_runtime.bundle.manifest import Bundle
from elmo_runtime.embedder import Embedder
from elmo_runtime.errors import InputError
from elmo_runtime.options import GpuOptions


def test_few_sizes_and_at_most_a_quarter_of_padding():
    """The memory arena on CUDA grew with every new shape, to 22 GB."""
    sizes = [bucket(size, 1) for size in range(1, 8193)]
    assert sizes == sorted(sizes) and len(set(sizes)) < 50
    assert all(size <= padded <= max(1.25 * size, size + 1) for size, padded in enumerate(sizes, 1))


def test_a_size_up_to_the_least_is_the_least():
    assert [bucket(size, 8) for size in (0, 3, 8, 9, 17, 65)] == [8, 8, 8, 16, 24, 80]


@pytest.fixture(scope="module")
def bilm(bundle):
    """The padded graph, as a session on the CPU and as the manifest describes it."""
    opened = Bundle.open(bundle)
    graph = opened.graph("bilm", "fp32", forms=["padded"])
    session = onnxruntime.InferenceSession(
        opened.path / graph.file, providers=["CPUExecutionProvider"]
    )
    return session, graph


def inputs_of(batch, marked_length, words=7, seed=0):
    generator = np.random.default_rng(seed)
    lengths = generator.integers(1, marked_length - 1, batch).astype(np.int32)
    lengths[0] = marked_length - 2
    return {
        "word_vectors": generator.normal(size=(words, 8)).astype(np.float32),
        "word_index": generator.integers(0, words, (batch, marked_length)).astype(np.int32),
        "lengths": lengths,
        "mix_weights": np.zeros((2, 3), np.float32),
        "gamma": np.ones(2, np.float32),
        "initial_h": generator.normal(size=(2, 2, batch, 8)).astype(np.float32),
        "initial_c": generator.normal(size=(2, 2, batch, 24)).astype(np.float32),
    }


@pytest.mark.parametrize(("batch", "marked_length"), [(1, 3), (3, 9), (9, 20), (11, 67)])
def test_padding_changes_no_output(bilm, batch, marked_length):
    session, graph = bilm
    inputs, buckets = inputs_of(batch, marked_length), Buckets(graph)
    names = [tensor.name for tensor in graph.outputs]
    expected = dict(zip(names, session.run(names, inputs), strict=True))
    padded = buckets.pad(inputs)
    assert padded["word_index"].shape == (bucket(batch, 1), bucket(marked_length, 8))
    found = buckets.cut(dict(zip(names, session.run(names, padded), strict=True)), inputs)
    for name in names:
        assert found[name].shape == expected[name].shape, name
        np.testing.assert_allclose(found[name], expected[name], atol=1e-5, err_msg=name)


def test_the_arena_shrinks_after_a_new_shape_and_after_many_runs(bilm, monkeypatch):
    monkeypatch.setattr(ort, "SHRINK_EVERY", 3)
    session = ort._CudaSession(*bilm)
    one, other = inputs_of(1, 8), inputs_of(2, 8)
    runs = [session._run_options(inputs) is not None for inputs in (one, one, one, other, other)]
    assert runs == [True, False, True, True, False]


def test_the_limit_of_device_memory_reaches_the_provider(bundle):
    options = ort._cuda_options(BackendOptions(gpu_mem_limit=1 << 30))
    assert options["gpu_mem_limit"] == "1073741824"
    assert options["arena_extend_strategy"] == "kSameAsRequested"
    assert "gpu_mem_limit" not in ort._cuda_options(BackendOptions())
    with pytest.raises(InputError, match="mem_limit is 0"):
        Embedder.load(bundle, gpu=GpuOptions(mem_limit=0))
