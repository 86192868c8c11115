"""OpenVINO computes the joined graph; a bundle without it, or no OpenVINO, is a clear reason."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from elmo_deploy.benchmark.subject import Subject
from elmo_deploy.benchmark.systems.openvino import open_openvino
from elmo_deploy.benchmark.systems.table import SYSTEMS
from elmo_deploy.model.reference import reference
from elmo_export.export import export_bundle
from elmo_runtime.errors import BackendUnavailableError
from tolerances import TORCH_FLOAT32

SENTENCES = [("the", "cat", "sat"), ("dogs",), ("a", "b", "c", "d", "e")]


@pytest.fixture(scope="module")
def joined_bundle(tiny_checkpoint, tmp_path_factory) -> Path:
    """The tiny model with its joined graph."""
    folder = tmp_path_factory.mktemp("joined") / "bundle"
    export_bundle(tiny_checkpoint, folder, reference=reference(tiny_checkpoint), joined=True)
    return folder


def test_openvino_gives_the_vectors_of_onnx_runtime(joined_bundle):
    pytest.importorskip("openvino")
    subject = Subject(joined_bundle, threads=1)
    vectors = SYSTEMS["openvino-fp32"].open(subject).embed(SENTENCES)[0]
    expected = SYSTEMS["cpu-padded"].open(subject).embed(SENTENCES)["elmo"]
    for sentence, row in zip(expected, vectors, strict=True):
        assert abs(row[: len(sentence)] - sentence).max() < TORCH_FLOAT32
        assert not row[len(sentence) :].any()


def test_the_stages_are_the_ids_and_the_graph(joined_bundle):
    pytest.importorskip("openvino")
    runner = open_openvino(Subject(joined_bundle, threads=1))
    assert set(runner.stages(SENTENCES)) == {"characters", "whole graph"}


def test_a_bundle_without_the_joined_graph_is_named(tiny_bundle):
    pytest.importorskip("openvino")
    with pytest.raises(BackendUnavailableError, match="no joined graph in fp32") as caught:
        open_openvino(Subject(tiny_bundle))
    assert "--joined" in caught.value.hint


def test_a_missing_openvino_is_named_with_the_extra(monkeypatch, tiny_bundle):
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(BackendUnavailableError, match="OpenVINO cannot be imported") as caught:
        open_openvino(Subject(tiny_bundle))
    assert "elmo-deploy[benchmark]" in caught.value.hint


@pytest.mark.parametrize("system", ["minilm-fp32", "minilm-int8"])
def test_a_missing_onnx_is_named_with_the_extra(monkeypatch, tiny_bundle, system):
    for name in ("onnx", "elmo_export.graphs.builder", "elmo_deploy.benchmark.systems.transformer"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(BackendUnavailableError, match="cannot be built") as caught:
        SYSTEMS[system].open(Subject(tiny_bundle))
    assert "elmo-deploy[benchmark]" in caught.value.hint
