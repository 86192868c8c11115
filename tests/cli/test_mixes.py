"""Layer mixes on the command line: those of the bundle and those of the caller."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from elmo_deploy.model import Elmo
from elmo_deploy.model.reference import reference
from elmo_export import export_bundle
from elmo_runtime import Embedder
from random_models import random_checkpoint, tiny_config

TEXT = "the cat sat\na b c d\n"
SENTENCES = [line.split() for line in TEXT.splitlines()]


@pytest.fixture(scope="module")
def trained():
    """A checkpoint of two mixes; the second normalizes its layers."""
    model = Elmo.from_checkpoint(
        random_checkpoint(tiny_config()), mix_names=["ner", "pos"], do_layer_norm=[False, True]
    )
    with torch.no_grad():
        model.layer_mix.weights.copy_(torch.tensor([[0.0, 1.0, 2.0], [3.0, 0.0, 0.0]]))
        model.layer_mix.gamma.copy_(torch.tensor([0.5, 2.0]))
    return model.to_checkpoint()


@pytest.fixture(scope="module")
def mixed(trained, tmp_path_factory):
    folder = tmp_path_factory.mktemp("mixed") / "bundle"
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("elmo_export.verify.cases.SHAPES", [(1, 2), (5, 7)])
        export_bundle(trained, folder, reference=reference(trained))
    return folder


@pytest.fixture
def text(tmp_path):
    file = tmp_path / "text.txt"
    file.write_text(TEXT)
    return file


@pytest.mark.parametrize(
    ("words", "mix"),
    [
        ([], {}),
        (["--mix", "pos"], {"mix": "pos"}),
        (["--gamma", "3"], {"gamma": 3.0}),
        (["--mix-weights", "-1,0,2.5"], {"mix_weights": [-1, 0, 2.5]}),
        (["--mix-weights=0,0,1", "--gamma=-2"], {"mix_weights": [0, 0, 1], "gamma": -2.0}),
    ],
)
@pytest.mark.parametrize("state", ["zero", "carry"])
def test_embed_uses_the_given_mix(words, mix, state, run, mixed, text, tmp_path):
    out = tmp_path / "out.npz"
    options = ["--outputs", "default", "--state", state, "--backend", "onnxruntime-cpu"]
    answer = run("embed", mixed, text, "-o", out, *options, *words)
    assert answer.code == 0, answer.stderr
    with Embedder.load(mixed, backend="onnxruntime-cpu", state=state) as elmo:
        expected = elmo.embed(SENTENCES, outputs="default", **mix)["default"]
    with np.load(out) as found:
        assert np.array_equal(found["vectors"], expected)


def test_a_directory_started_with_one_mix_rejects_another(run, mixed, text, tmp_path):
    pytest.importorskip("pyarrow")
    out = tmp_path / "parts"
    assert run("embed", mixed, text, "-o", out, "--mix", "pos").code == 0
    assert run("embed", mixed, text, "-o", out, "--mix", "pos", "--resume").code == 0
    assert run("embed", mixed, text, "-o", out, "--resume").code == 2


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--mix", "srl"], "mix 'srl' does not exist"),
        (["--mix", "srl"], "use ner, pos"),
        (["--mix", "ner", "--mix-weights", "0,0,1"], "mix cannot be combined with mix_weights"),
        (["--mix-weights", "0,x,1"], "must be numbers separated by commas"),
        (["--mix-weights", "0,1"], "shape (3,)"),
        (["--gamma", "nan"], "gamma is nan"),
        (["--outputs", "word_emb", "--gamma", "2"], "--gamma has no effect on the outputs"),
    ],
)
def test_an_invalid_mix_is_a_usage_error(words, said, run, mixed, text, tmp_path):
    answer = run("embed", mixed, text, "-o", tmp_path / "out.npz", *words)
    assert (answer.code, said in answer.stderr) == (2, True), answer.stderr
    assert not (tmp_path / "out.npz").exists()


@pytest.mark.parametrize("kind", ["bundle", "checkpoint"])
def test_inspect_lists_the_mixes(kind, run, mixed, trained, tmp_path):
    path = mixed
    if kind == "checkpoint":
        path = tmp_path / "checkpoint"
        trained.write(path)
    mixes = json.loads(run("inspect", path, "--json").stdout)["mixes"]
    assert [(mix["mix"], mix["default"], mix["gamma"], mix["layer_norm"]) for mix in mixes] == [
        ("ner", True, 0.5, False),
        ("pos", False, 2.0, True),
    ]
    assert mixes[1]["weights"] == [3.0, 0.0, 0.0]
    assert "layer_norm" in run("inspect", path).stdout


def test_verify_compares_the_trained_mixes(run, mixed, trained, tmp_path):
    """A bundle whose mixes are not those of the checkpoint passed, because mixes are inputs."""
    other = dict(trained.tensors) | {"layer_mix.gamma": np.float32([0.5, 1.9])}
    trained.write(tmp_path / "same")
    replace(trained, tensors=other).write(tmp_path / "other")
    codes = [run("verify", mixed, "--checkpoint", tmp_path / n).code for n in ("same", "other")]
    assert codes == [0, 3]
