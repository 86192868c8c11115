"""An embedder in another process, and a copy of one."""

from __future__ import annotations

import copy
import multiprocessing
import os
import pickle

import numpy as np
import pytest

from elmo_runtime.embedder import Embedder
from elmo_runtime.errors import BundleError
from elmo_runtime.options import Limits


def first_vectors(elmo):
    return elmo.embed(["a b"])["elmo"][0]


@pytest.mark.parametrize(
    "copied", [copy.copy, copy.deepcopy, lambda elmo: pickle.loads(pickle.dumps(elmo))]
)
def test_a_copy_opens_the_bundle_again(bundle, embedder, copied):
    """Pickling failed with "cannot pickle '_thread.lock' object"."""
    with Embedder.load(
        bundle, backend="onnxruntime-cpu", limits=Limits(max_sentence_tokens=7)
    ) as original:
        other = copied(original)
    with other:  # the original is closed
        assert other.max_sentence_tokens == 7
        assert (first_vectors(other) == first_vectors(embedder)).all()


def test_a_copy_carries_the_state_on(bundle):
    """A copy of an embedder that carries its state must continue where the original was."""
    with Embedder.load(bundle, state="carry") as original:
        first_vectors(original)
        with copy.copy(original) as other:
            assert (first_vectors(other) == first_vectors(original)).all()


@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_an_embedder_can_be_passed_to_another_process(embedder, method):
    with multiprocessing.get_context(method).Pool(1) as pool:
        there = pool.apply(first_vectors, (embedder,))
    assert (there == first_vectors(embedder)).all()


class Vectors:
    """A dataset whose items are vectors, as people write it."""

    def __init__(self, elmo, sentences):
        self.elmo, self.sentences = elmo, sentences

    def __len__(self):
        return len(self.sentences)

    def __getitem__(self, index):
        return self.elmo.embed([self.sentences[index]], outputs=["default"])["default"][0]


def test_workers_of_a_data_loader_embed(embedder):
    """Its workers could not be given an embedder."""
    data = pytest.importorskip("torch.utils.data")
    sentences = ["a b", "c", "d e f"]
    loader = data.DataLoader(
        Vectors(embedder, sentences), num_workers=1, multiprocessing_context="spawn"
    )
    there = np.concatenate([batch.numpy() for batch in loader])
    assert np.allclose(there, embedder.embed(sentences, outputs=["default"])["default"], atol=1e-6)


def test_joblib_workers_embed(embedder):
    """Its workers could not be given an embedder."""
    joblib = pytest.importorskip("joblib")
    (there,) = joblib.Parallel(n_jobs=2)([joblib.delayed(first_vectors)(embedder)])
    assert (there == first_vectors(embedder)).all()


def test_an_embedder_without_load_arguments_says_why_it_cannot_be_copied(spy_on):
    _, embedder = spy_on()
    with pytest.raises(TypeError, match=r"only an Embedder that Embedder\.load returned"):
        pickle.dumps(embedder)


def test_the_bundle_is_found_again_from_another_directory(bundle, embedder, tmp_path, monkeypatch):
    """The path of the bundle was kept as it was given, relative to a directory that changes."""
    monkeypatch.chdir(bundle.parent)
    with Embedder.load(bundle.name, backend="onnxruntime-cpu") as elmo:
        monkeypatch.chdir(tmp_path)
        elmo.check_golden_sentences()
        with copy.copy(elmo) as other:
            assert (first_vectors(other) == first_vectors(embedder)).all()


def test_a_directory_that_was_removed_is_no_crash(tmp_path, monkeypatch):
    """`Embedder.load("bundle")` from a removed directory raised a bare FileNotFoundError."""
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    try:
        with pytest.raises(BundleError, match=r"cannot be found|is not a bundle"):
            Embedder.load("bundle")
    finally:
        os.chdir(tmp_path)
