"""ONNX Runtime: the device on which it really runs, and its errors. Guarantee F3."""

from __future__ import annotations

import importlib.metadata
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from elmo_runtime.backends.base import BackendOptions, BiLmInputs
from elmo_runtime.backends.chain import BackendChain
from elmo_runtime.backends.onnxruntime import backend as ort
from elmo_runtime.backends.onnxruntime.installation import cuda_is_installed, import_onnxruntime
from elmo_runtime.bundle.manifest import Bundle
from elmo_runtime.characters import char_ids
from elmo_runtime.errors import (
    BackendError,
    BackendFallbackWarning,
    BackendUnavailableError,
    DeviceMemoryError,
)
from guarantee_kit.corruption import replace_file

OPTIONS = BackendOptions(threads=1)
HAS_CUDA_WHEEL = ort.CUDA in import_onnxruntime().get_available_providers()


def lacking(bundle: Path, what: str) -> Bundle:
    """The bundle with a changed manifest."""
    opened = Bundle.open(bundle)
    graphs = {
        "padded bilm": [
            g for g in opened.manifest.graphs if (g.part, g.form) != ("bilm", "padded")
        ],
        "bilm": [g for g in opened.manifest.graphs if g.part != "bilm"],
        "fp32": [replace(g, precision="int8") for g in opened.manifest.graphs],
    }[what]
    return replace(opened, manifest=replace(opened.manifest, graphs=tuple(graphs)))


@pytest.fixture(scope="module")
def backend(bundle):
    opened = ort.open_cpu(Bundle.open(bundle), "auto", OPTIONS)
    yield opened
    opened.close()


def test_the_packed_form_is_preferred_on_the_cpu(bundle):
    graph = Bundle.open(bundle).graph("bilm", "fp32", forms=ort.CPU_FORMS)
    assert graph is not None and graph.form == "packed"
    assert "packed" not in ort.CUDA_FORMS


def test_more_words_than_one_call_takes_are_encoded_in_groups(backend, monkeypatch):
    ids = char_ids([str(number) * (number % 30) for number in range(50)])
    at_once = backend.encode_words(ids)
    monkeypatch.setattr(ort, "WORDS_PER_CALL", 7)
    assert (backend.encode_words(ids) == at_once).all()


def test_only_the_requested_outputs_are_returned(backend, embedder):
    config = embedder.config
    inputs = BiLmInputs(
        word_vectors=np.zeros((1, config.projection_dim), np.float32),
        word_index=np.zeros((1, 3), np.int32),
        lengths=np.ones(1, np.int32),
        mix_weights=np.zeros((1, config.n_layers + 1), np.float32),
        gamma=np.ones(1, np.float32),
        initial_h=np.zeros((config.n_layers, 2, 1, config.projection_dim), np.float32),
        initial_c=np.zeros((config.n_layers, 2, 1, config.lstm_dim), np.float32),
    )
    assert list(backend.run_bilm(inputs, ["default", "final_h"])) == ["default", "final_h"]


def test_an_error_of_onnxruntime_becomes_a_backend_error(backend):
    with pytest.raises(BackendError, match="Unexpected input data type"):
        backend.encode_words(np.zeros((1, 50), np.float64))


def test_lack_of_memory_differs_from_other_errors():
    with pytest.raises(DeviceMemoryError, match="smaller token_budget"), ort._translated_errors():
        raise RuntimeError("CUDA failure 2: out of memory ; GPU=0")
    with pytest.raises(DeviceMemoryError), ort._translated_errors():
        raise MemoryError


@pytest.mark.skipif(HAS_CUDA_WHEEL, reason="this onnxruntime has CUDA")
def test_cuda_by_name_is_refused_without_its_wheel(bundle):
    with pytest.raises(BackendUnavailableError, match=r"no CUDA provider; pip install .*gpu"):
        ort.open_cuda(Bundle.open(bundle), "auto", OPTIONS)
    assert not cuda_is_installed()


@pytest.mark.skipif(HAS_CUDA_WHEEL, reason="this onnxruntime has CUDA")
def test_both_wheels_together_are_named(bundle, monkeypatch):
    monkeypatch.setattr(importlib.metadata, "distribution", lambda name: name)
    assert cuda_is_installed()
    with pytest.raises(BackendUnavailableError, match=r"both installed.*pip uninstall"):
        ort.open_cuda(Bundle.open(bundle), "auto", OPTIONS)


def test_a_missing_library_says_what_to_install(bundle, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "onnxruntime", None)
    with pytest.raises(BackendUnavailableError, match=r"elmo-deploy\[cpu\]"):
        ort.open_cpu(Bundle.open(bundle), "auto", OPTIONS)


def test_the_provider_is_read_from_the_session(bundle, monkeypatch):
    """onnxruntime-gpu without CUDA lists the provider and silently runs on the CPU."""
    session = import_onnxruntime().InferenceSession
    monkeypatch.setattr(session, "get_providers", lambda self: ["SomethingElse"])
    with pytest.raises(BackendUnavailableError, match="the session runs on SomethingElse"):
        ort.open_cpu(Bundle.open(bundle), "auto", OPTIONS)


def test_a_precision_that_the_bundle_lacks_is_named(bundle):
    lacks = "holds fp32, not int8; export with --precision int8"
    with pytest.raises(BackendUnavailableError, match=lacks):
        ort.open_cpu(Bundle.open(bundle), "int8", OPTIONS)


def test_a_form_that_the_bundle_lacks_is_named(bundle):
    with pytest.raises(BackendUnavailableError, match=r"no bilm graph .* packed or padded; export"):
        ort.open_cpu(lacking(bundle, "bilm"), "auto", OPTIONS)


LACKS = [
    ("fp32", "holds int8, not fp16 or fp32; export with --precision fp16"),
    ("padded bilm", "holds no bilm graph of precision fp32 and form padded; export"),
]


@pytest.fixture
def claims_cuda(monkeypatch):
    """An onnxruntime that reports CUDA, so that graphs for it are looked up."""
    monkeypatch.setattr(import_onnxruntime(), "get_available_providers", lambda: [ort.CUDA])
    monkeypatch.setattr(import_onnxruntime(), "preload_dlls", lambda: None)


@pytest.mark.parametrize(("what", "said"), LACKS)
def test_auto_skips_a_backend_without_graphs_in_the_bundle(claims_cuda, bundle, what, said):
    """The chain ended there, although the CPU could use the existing graphs."""
    with pytest.warns(BackendFallbackWarning, match=f"cpu. .*cuda failed.*{said}") as told:
        backend = BackendChain(lacking(bundle, what), options=OPTIONS).open()
    backend.close()
    assert (len(told), backend.name) == (1, "onnxruntime-cpu")


@pytest.mark.parametrize(("what", "said"), LACKS)
def test_a_named_backend_without_graphs_in_the_bundle_raises(claims_cuda, bundle, what, said):
    with pytest.raises(BackendUnavailableError, match=said):
        BackendChain(lacking(bundle, what), "onnxruntime-cuda", options=OPTIONS).open()


def test_a_graph_that_onnxruntime_cannot_read_is_not_a_crash(bundle, tmp_path):
    folder = shutil.copytree(bundle, tmp_path / "bundle")
    graph = Bundle.open(folder).graph("bilm", "fp32", forms=("packed",))
    replace_file(folder, graph.file, b"no graph")
    copy = Bundle.open(folder)
    with pytest.raises(BackendUnavailableError, match=f"cannot open {graph.file}"):
        ort.open_cpu(copy, "auto", OPTIONS)


def test_nothing_is_printed(bundle, capfd):
    ort.open_cpu(Bundle.open(bundle), "auto", OPTIONS).close()
    assert capfd.readouterr() == ("", "")
