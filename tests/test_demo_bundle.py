"""The bundle that comes with the package is the one of models/english-small, and can be used."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from elmo_deploy import Elmo, Embedder, demo_bundle
from elmo_runtime.bundle.manifest import Bundle
from elmo_runtime.characters import char_ids
from elmo_runtime.files.atomic import sha256_of

MODEL = Path(__file__).parents[1] / "models" / "english-small"
SENTENCES = ("they left the house at noon", "turn to the left")
INT8_COSINE = 0.99  # smallest cosine of an int8 vector and its reference


def reference_vectors(sentence: str) -> np.ndarray:
    """`elmo` of the PyTorch model, every layer with the same weight."""
    import torch

    elmo = Elmo.from_checkpoint(MODEL)
    with torch.no_grad():
        ids = torch.from_numpy(char_ids(sentence.split())).unsqueeze(0)
        return elmo(ids).elmo[0][0].numpy()


def smallest_cosine(ours: np.ndarray, reference: np.ndarray) -> float:
    norms = np.linalg.norm(ours, axis=-1) * np.linalg.norm(reference, axis=-1)
    return float(((ours * reference).sum(axis=-1) / norms).min())


def test_the_demo_bundle_was_exported_from_the_model_of_the_repository():
    """The model changes without its bundle if `make demo-bundle` is forgotten."""
    provenance = Bundle.open(demo_bundle()).manifest.provenance
    assert provenance["model.safetensors sha256"] == sha256_of(MODEL / "model.safetensors")


@pytest.mark.filterwarnings("error")
def test_the_vectors_of_the_demo_bundle_are_those_of_the_model():
    with Embedder.load(demo_bundle(), backend="onnxruntime-cpu") as elmo:
        vectors = elmo.embed(SENTENCES)["elmo"]
    for ours, sentence in zip(vectors, SENTENCES, strict=True):
        assert smallest_cosine(ours, reference_vectors(sentence)) > INT8_COSINE


def test_vectors_of_another_model_are_noticed():
    """Negative control: the comparison above finds vectors of other sentences."""
    with Embedder.load(demo_bundle(), backend="onnxruntime-cpu") as elmo:
        (vectors,) = elmo.embed([SENTENCES[1]])["elmo"]
    assert smallest_cosine(vectors, reference_vectors(SENTENCES[0])[:4]) < INT8_COSINE


def test_the_demo_bundle_stays_small():
    """Everyone who installs the package downloads it; PyPI accepts files up to 100 MB."""
    assert sum(file.bytes for file in Bundle.open(demo_bundle()).files.values()) < 9e6


def test_the_command_line_finds_the_demo_bundle_by_its_name(tmp_path, monkeypatch, capsys):
    from elmo_deploy.cli import main

    monkeypatch.chdir(tmp_path)
    Path("sentences.txt").write_text("turn to the left\n")
    with pytest.raises(SystemExit, match="0"):
        main(["embed", "english-small", "sentences.txt", "-o", "vectors.npz"])
    assert np.load("vectors.npz")["vectors"].shape == (4, 256)
    with pytest.raises(SystemExit, match="0"):
        main(["inspect", "english-small", "--json"])
    assert json.loads(capsys.readouterr().out)["parameters"] == 7_053_008


def test_a_directory_with_the_same_name_comes_first(tmp_path, monkeypatch):
    from elmo_deploy.cli._options.bundles import bundle_path

    monkeypatch.chdir(tmp_path)
    Path("english-small").mkdir()
    assert bundle_path(Path("english-small")) == Path("english-small")
