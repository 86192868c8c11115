"""A bundle stores, uses and verifies the layer mixes that a user trained."""

from __future__ import annotations

import dataclasses
import json
import shutil

import numpy as np
import pytest
import torch

import oracle
from elmo_deploy.model import Elmo
from elmo_deploy.model.reference import reference
from elmo_export import Checkpoint, export_bundle, recover_checkpoint, verify_bundle
from elmo_export.graphs.build import build_bilm, build_joined
from elmo_export.verify.cases import parity_cases
from elmo_runtime import Bundle, Embedder
from elmo_runtime.errors import BundleVersionError, CheckpointError, VerificationError
from guarantee_kit.corruption import forge
from random_models import random_checkpoint, tiny_config
from tolerances import BUNDLE_FLOAT32

SENTENCES = [["the", "cat", "sat"], [], ["naïve", "日本語"], ["a"], ["one", "more", "of", "these"]]
NAMES = ("ner", "pos")


def trained_checkpoint(do_layer_norm=False, **changes):
    """A random ELMo with two mixes whose weights differ."""
    model = Elmo.from_checkpoint(
        random_checkpoint(tiny_config(**changes)), mix_names=NAMES, do_layer_norm=do_layer_norm
    )
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        model.layer_mix.weights.normal_(0, 2, generator=generator)
        model.layer_mix.gamma.copy_(torch.tensor([0.3, 1.9]))
    return model.to_checkpoint()


@pytest.fixture(scope="module", autouse=True)
def small_matrix():
    """Fewer parity cases, for tests that do not need a thorough comparison."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("elmo_export.verify.cases.SHAPES", [(1, 2), (5, 7), (3, 13)])
        yield


@pytest.fixture(scope="module", params=[False, True, (False, True)], ids=str)
def trained(request):
    return trained_checkpoint(request.param)


@pytest.fixture(scope="module")
def bundle(trained, tmp_path_factory):
    folder = tmp_path_factory.mktemp("trained") / "bundle"
    return export_bundle(
        trained,
        folder,
        reference=reference(trained),
        precisions=["fp32", "fp16", "int8"],
        joined=True,
    )


@pytest.fixture(scope="module")
def expected(trained):
    """The outputs of the trained module per mix: (batch, length, 2P) and (batch, 2P)."""
    with torch.inference_mode():
        out = Elmo.from_checkpoint(trained)(torch.tensor(oracle.padded_ids(SENTENCES)))
    return {
        name: (elmo.numpy(), default.numpy())
        for name, elmo, default in zip(NAMES, out.elmo, out.default, strict=True)
    }


@pytest.fixture(scope="module", params=["onnxruntime-cpu", "auto"])
def embedder(bundle, request):
    """An embedder on ONNX Runtime, and one on the default backend."""
    with Embedder.load(bundle.path, backend=request.param, precision="fp32") as elmo:
        yield elmo


def test_a_call_without_a_mix_uses_the_first_trained_mix(embedder, expected):
    """`elmo` and `default` silently differed by 0.5 from the trained module."""
    out = embedder.embed(SENTENCES, outputs=["elmo", "default"])
    elmo, default = expected["ner"]
    assert np.abs(out.padded("elmo") - elmo).max() < BUNDLE_FLOAT32
    assert np.abs(out["default"] - default).max() < BUNDLE_FLOAT32


def test_every_trained_mix_can_be_selected_by_name(embedder, expected):
    out = embedder.embed(SENTENCES, outputs=["elmo", "default"], mixes=NAMES)
    for name in NAMES:
        elmo, default = expected[name]
        assert np.abs(out.padded(f"elmo:{name}") - elmo).max() < BUNDLE_FLOAT32
        assert np.abs(out[f"default:{name}"] - default).max() < BUNDLE_FLOAT32
        one = embedder.embed(SENTENCES, mix=name)
        assert np.abs(one.padded("elmo") - elmo).max() < BUNDLE_FLOAT32


def test_a_mix_of_the_caller_overrides_the_trained_mixes(embedder, tiny_checkpoint):
    out = embedder.embed(SENTENCES, outputs=["elmo", "layers"], mix_weights=[0, 0, 0])
    for elmo, layers in zip(out["elmo"], out["layers"], strict=True):
        assert np.abs(elmo - layers.mean(axis=0)).max(initial=0) < BUNDLE_FLOAT32


def test_a_stream_takes_a_mix_by_name(embedder, expected):
    *_, last = embedder.embed_stream(SENTENCES, mix="pos")
    assert np.abs(last["elmo"][0] - expected["pos"][0][-1]).max() < BUNDLE_FLOAT32


def test_a_long_sentence_is_mixed_in_one_piece(bundle, trained):
    """A layer norm needs the complete sentence, and a segment is a part of it."""
    sentence = [f"word{number}" for number in range(70)]
    with Embedder.load(bundle.path, backend="onnxruntime-cpu", token_budget=24) as small:
        out = small.embed([sentence], outputs=["elmo", "default", "lstm_outputs2"], mixes=NAMES)
    with torch.inference_mode():
        module = Elmo.from_checkpoint(trained)(torch.tensor(oracle.padded_ids([sentence])))
    for number, name in enumerate(NAMES):
        elmo, default = module.elmo[number].numpy(), module.default[number].numpy()
        assert np.abs(out.padded(f"elmo:{name}") - elmo).max() < BUNDLE_FLOAT32
        assert np.abs(out[f"default:{name}"] - default).max() < BUNDLE_FLOAT32
    assert set(out) == {f"{o}:{n}" for o in ("elmo", "default") for n in NAMES} | {"lstm_outputs2"}


def test_the_rest_of_the_batch_changes_no_bit(bundle):
    """The layer norm used statistics of the batch."""
    with Embedder.load(bundle.path, backend="onnxruntime-cpu", cache_words=0) as elmo:
        together = elmo.embed(SENTENCES, outputs=["elmo", "default"], mixes=NAMES)
        for row, sentence in enumerate(SENTENCES):
            single = elmo.embed([sentence], outputs=["elmo", "default"], mixes=NAMES)
            for key in single:
                assert single[key][0].tobytes() == together[key][row].tobytes()


def test_the_parity_table_and_the_samples_use_the_trained_mixes(bundle, trained):
    cases = [case for case in parity_cases(trained.config, trained.mixes) if case.trained_mixes]
    assert [case.name for case in cases] == ["3x13, trained mixes", "English, trained mixes"]
    assert all("mix_weights" not in case.reference_inputs for case in cases)
    assert len(verify_bundle(bundle.path, reference=reference(trained))) == len(
        bundle.manifest.parity
    )
    samples = np.load(bundle.path / "samples" / "outputs.npz")
    assert len(samples["elmo"]) == len(NAMES)


def test_a_mix_that_export_loses_or_changes_exceeds_the_tolerance(tmp_path, monkeypatch):
    """The check passed, because the reference was given the mixes of the graph."""
    checkpoint = trained_checkpoint()
    for change in (
        {"weights": (0.0, 0.0, 0.0)},
        {"gamma": 1.0},
    ):
        wrong = tuple(dataclasses.replace(mix, **change) for mix in checkpoint.mixes)
        with monkeypatch.context() as patched:
            patched.setattr(Checkpoint, "mixes", wrong)
            with pytest.raises(VerificationError, match=r"elmo .*, trained mixes.*BEYOND"):
                export_bundle(checkpoint, tmp_path / "b", reference=reference(checkpoint))
    assert not (tmp_path / "b").exists()


def test_verify_finds_a_mix_that_changed_in_the_manifest(bundle, trained, tmp_path):
    copy = shutil.copytree(bundle.path, tmp_path / "bundle")
    forge(copy, lambda content: content["mixes"][1].update(gamma=2.0))
    with pytest.raises(VerificationError, match="trained mixes"):
        verify_bundle(copy, reference=reference(trained))
    with pytest.raises(VerificationError, match="'elmo:pos'"):
        Embedder.load(copy, backend="onnxruntime-cpu")


def test_the_recovered_checkpoint_has_its_mixes(bundle, trained):
    """recover_checkpoint lost them."""
    back = recover_checkpoint(Bundle.open(bundle.path))
    assert back.mixes == trained.mixes
    assert back.tensors.keys() == trained.tensors.keys()
    for name, tensor in trained.tensors.items():
        assert back.tensors[name].tobytes() == tensor.tobytes()


def test_the_model_card_names_the_mixes(bundle):
    card = (bundle.path / "README.md").read_text("utf-8")
    assert "| ner (default) | " in card
    assert "| pos | " in card


def test_models_without_layer_norm_have_the_same_graphs_as_without_mixes(tiny_checkpoint):
    mixed = trained_checkpoint()
    plain = dataclasses.replace(
        mixed,
        tensors={n: t for n, t in mixed.tensors.items() if not n.startswith("layer_mix")},
        mix_labels=(),
    )
    for build in (build_bilm, build_joined):
        for form in ("padded", "packed"):
            assert build(mixed, form=form) == build(plain, form=form)


def test_a_bundle_of_schema_1_has_a_mix_of_equal_weights(tiny_bundle, tmp_path):
    """Old bundles have no mixes, but can be opened."""
    old = shutil.copytree(tiny_bundle, tmp_path / "bundle")
    forge(old, lambda content: (content.pop("mixes"), content.update(schema=1)))
    assert Bundle.open(old).mixes == ()
    with Embedder.load(old, backend="onnxruntime-cpu") as elmo:
        out = elmo.embed(["a b"], outputs=["elmo", "layers"])
    assert np.abs(out["elmo"][0] - out["layers"][0].mean(axis=0)).max() < BUNDLE_FLOAT32


def flip_layer_norm(content):
    """Invert the layer norm of every mix, so that the mixes contradict the graphs."""
    before = any(mix["layer_norm"] for mix in content["mixes"])
    for mix in content["mixes"]:
        mix["layer_norm"] = not before


@pytest.mark.parametrize(
    "edit",
    [
        lambda content: content.pop("mixes"),
        lambda content: content["mixes"][0].pop("gamma"),
        lambda content: content["mixes"][0].update(weights=[0.0]),
        lambda content: content["mixes"][0].update(weights=[0.0, 0.0, float("nan")]),
        lambda content: content["mixes"][0].update(gamma=1e9),
        lambda content: content["mixes"][0].update(gamma=10**400),
        lambda content: content["mixes"][0].update(gamma=True),
        lambda content: content["mixes"][0].update(weights=["0", "1", "2"]),
        lambda content: content["mixes"][0].update(name="pos"),
        lambda content: content["mixes"][0].update(name=""),
        flip_layer_norm,
    ],
)
def test_a_manifest_with_malformed_mixes_is_rejected(edit, bundle, tmp_path):
    copy = shutil.copytree(bundle.path, tmp_path / "bundle")
    forge(copy, edit)
    with pytest.raises(BundleVersionError):
        Bundle.open(copy)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"gamma": np.float32([np.nan, 1])}, "gamma ner is nan"),
        ({"gamma": np.float32([1, 2e6])}, "gamma pos is 2000000"),
        ({"weights": np.full((2, 3), np.inf, np.float32)}, "mix_weights ner"),
    ],
)
def test_a_checkpoint_with_an_unusable_mix_is_rejected(change, said):
    checkpoint = trained_checkpoint()
    tensors = {f"layer_mix.{name}": array for name, array in change.items()}
    with pytest.raises(CheckpointError, match=said):
        dataclasses.replace(checkpoint, tensors={**checkpoint.tensors, **tensors})


def test_names_of_mixes_must_differ_and_be_printable():
    for names in (("a", "a"), ("a", ""), ("a", "b\n"), ("a", " b")):
        with pytest.raises(CheckpointError, match="layer mix"):
            Elmo(tiny_config(), mix_names=names).to_checkpoint()


def test_a_checkpoint_of_an_earlier_version_numbers_its_mixes(tmp_path):
    checkpoint = trained_checkpoint()
    checkpoint.write(tmp_path / "checkpoint")
    options = json.loads((tmp_path / "checkpoint" / "config.json").read_text())
    del options["layer_mixes"]
    (tmp_path / "checkpoint" / "config.json").write_text(json.dumps(options))
    assert [mix.name for mix in Checkpoint.read(tmp_path / "checkpoint").mixes] == ["0", "1"]
