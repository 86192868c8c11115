"""bilm-tf's TensorFlow checkpoints and local copies of TF Hub's module."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch

from elmo_deploy.importers.bilm_hdf5 import import_hdf5
from elmo_deploy.importers.bilm_layout import entries
from elmo_deploy.importers.detect import Companions, import_path
from elmo_deploy.model import Elmo
from elmo_runtime.errors import ConfigError, WeightsError
from random_models import random_checkpoint, tiny_config
from tf_bundle import write_bundle
from tolerances import GOLDEN_TORCH


@pytest.fixture(scope="module")
def trained(shared_data):
    return shared_data / "migration-golden" / "bilm-tf-checkpoint"


def same_tensors(found, expected):
    return all(found.tensors[n].tobytes() == t.tobytes() for n, t in expected.tensors.items())


def refusal(source, error=WeightsError, **companions):
    with pytest.raises(error) as caught:
        import_path(source, Companions(**companions))
    assert "\n" not in str(caught.value)
    return str(caught.value)


def variables(checkpoint, prefix="lm/", cell="multi_rnn_cell/cell_{}/"):
    """What bilm-tf's training saves for this checkpoint."""
    found = {"global_step": np.ones((), "f4")}
    for entry in entries(checkpoint.config):
        array = entry.layout.to_file(*(checkpoint.tensors[name] for name in entry.tensors))
        name = entry.name
        for depth in range(checkpoint.config.n_layers):
            name = name.replace(f"RNN/MultiRNNCell/Cell{depth}/", f"rnn/{cell.format(depth)}")
        for old, new in {"W_P_0": "projection/kernel", "W_0": "kernel", "B": "bias"}.items():
            name = name.replace(f"LSTMCell/{old}", f"lstm_cell/{new}")
        found[prefix + name] = array
        found[f"{prefix}{name}/Adagrad"] = np.full_like(array, np.nan)
    return found


def saved(folder, checkpoint, found, **options):
    folder.mkdir(exist_ok=True)
    write_bundle(folder / "model.ckpt-7", found)
    content = checkpoint.config.to_options() | options
    (folder / "options.json").write_text(json.dumps(content))
    return folder


def test_a_checkpoint_of_bilm_tf_equals_its_own_hdf5_dump(trained):
    """Without TensorFlow, a training run of bilm-tf could not be imported."""
    imported = import_path(trained / "char")
    assert imported.format == "a TensorFlow checkpoint of bilm-tf"
    dumped = import_hdf5(trained / "char" / "options.json", trained / "char" / "weights.hdf5")
    assert same_tensors(imported.checkpoint, dumped)
    assert imported.checkpoint.config == dumped.config


def test_the_vectors_are_those_of_bilm_tf(trained):
    golden = np.load(trained / "char" / "golden.npz")
    lengths = [len(words) for words in json.loads(str(golden["sentences"]))]
    ids = torch.from_numpy(golden["ids"][:, 1:-1])  # without <S> and </S>
    for row, length in enumerate(lengths):
        ids[row, length:] = 0
    with torch.no_grad():
        layers = Elmo.from_checkpoint(import_path(trained / "char").checkpoint)(ids).layers
    for row, length in enumerate(lengths):
        found = torch.stack(layers, dim=1)[row, :, :length]
        expected = golden["lm_embeddings"][row, :, :length]
        np.testing.assert_allclose(found, expected, rtol=0, atol=GOLDEN_TORCH)


def test_the_softmax_and_the_vocabulary_are_kept(trained):
    golden = np.load(trained / "char" / "tensors_by_tf.npz")
    found = import_path(trained / "char").checkpoint
    assert (found.tensors["softmax.weight"] == golden["lm/softmax/W"]).all()
    assert (found.tensors["softmax.bias"] == golden["lm/softmax/b"]).all()
    assert found.vocabulary[:3] == ("<S>", "</S>", "<UNK>")


@pytest.mark.parametrize("given", ["model.ckpt-200.index", "model.ckpt-200", "checkpoint"])
def test_a_checkpoint_has_several_names(trained, given):
    assert import_path(trained / "char" / given).checkpoint.vocabulary is not None


def test_a_model_of_one_layer_has_other_names(trained):
    found = import_path(trained / "one").checkpoint
    assert found.config.n_layers == 1


def test_models_that_are_no_elmo_are_refused_by_kind(trained):
    assert "the model is not bidirectional" in refusal(trained / "uni")
    assert "the model reads words, not characters: it has lm/embedding" in refusal(trained / "word")


def test_options_that_say_one_direction_are_refused(tmp_path):
    checkpoint = random_checkpoint(tiny_config())
    folder = saved(tmp_path / "run", checkpoint, variables(checkpoint), bidirectional=False)
    assert "bidirectional is false" in refusal(folder, ConfigError)


@pytest.mark.parametrize(
    ("changes", "cell"),
    [({}, "multi_rnn_cell/cell_{}/"), ({"n_layers": 1}, ""), ({"n_highway": 0}, None)],
)
def test_every_name_is_mapped(tmp_path, changes, cell):
    checkpoint = random_checkpoint(tiny_config(**changes))
    found = variables(checkpoint, cell="multi_rnn_cell/cell_{}/" if cell is None else cell)
    assert same_tensors(
        import_path(saved(tmp_path / "run", checkpoint, found)).checkpoint, checkpoint
    )


def test_names_of_tensorflow_before_1_2_are_mapped(tmp_path):
    checkpoint = random_checkpoint(tiny_config())
    found = {
        name.replace("kernel", "weights").replace("bias", "biases"): value
        for name, value in variables(checkpoint).items()
    }
    assert same_tensors(
        import_path(saved(tmp_path / "run", checkpoint, found)).checkpoint, checkpoint
    )


def test_a_model_without_a_projection_gets_the_identity(tmp_path):
    """bilm-tf has no projection where its size is that of the cell, and no clip of it."""
    config = tiny_config(projection_dim=24, proj_clip=0.1)
    checkpoint = random_checkpoint(config)
    found = {n: v for n, v in variables(checkpoint).items() if "projection" not in n}
    imported = import_path(saved(tmp_path / "run", checkpoint, found)).checkpoint
    assert imported.config == replace(config, proj_clip=None)
    name = "bilm.forward_stack.layers.0.projection_weight"
    assert (imported.tensors[name] == np.eye(24)).all()


def test_without_options_the_refusal_names_what_is_missing(trained, tmp_path):
    shutil.copytree(trained / "one", tmp_path / "one")
    (tmp_path / "one" / "options.json").unlink()
    assert "does not contain the clips, the skip connections" in refusal(tmp_path / "one")
    import_path(tmp_path / "one", Companions(options=trained / "one" / "options.json"))


def test_options_of_another_model_are_refused(trained):
    options = trained / "one" / "options.json"
    assert "Cell1/LSTMCell/B has no place" in refusal(trained / "char", options=options)


def test_a_vocabulary_of_another_size_is_refused(trained, tmp_path):
    (tmp_path / "vocab.txt").write_text("<S>\n</S>\n<UNK>\n")
    message = refusal(trained / "char", vocabulary=tmp_path / "vocab.txt")
    assert "vocab.txt has 3 words, the softmax has 1000" in message


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("lm/CNN/b_cnn_0", None, "variable CNN/b_cnn_0 of shape (4,) is missing"),
        ("lm/CNN/b_cnn_0", np.zeros(5, "f4"), "CNN/b_cnn_0 is (5,), the options say (4,)"),
        ("lm/CNN/b_cnn_0", np.full(4, np.inf, "f4"), "CNN/b_cnn_0 contains a value that is not"),
        ("lm/CNN/b_cnn_0", np.zeros(4, "i4"), "TensorFlow's type 3"),
        ("lm/CNN/b_cnn_9", np.zeros(4, "f4"), "CNN/b_cnn_9 has no place"),
        ("lm/char_embed", None, "no variable is called char_embed"),
        ("lm/RNN_0/RNN/MultiRNNCell/Cell0/LSTMCell/B", np.zeros(96, "f4"), "the same weights"),
    ],
)
def test_wrong_variables_are_named(tmp_path, name, value, reason):
    checkpoint = random_checkpoint(tiny_config())
    found = variables(checkpoint) | {name: value}
    if value is None:
        del found[name], found[f"{name}/Adagrad"]
    assert reason in refusal(saved(tmp_path / "run", checkpoint, found))


def test_two_checkpoints_without_the_file_of_the_latest_are_listed(tmp_path):
    checkpoint = random_checkpoint(tiny_config())
    folder = saved(tmp_path / "run", checkpoint, variables(checkpoint))
    write_bundle(folder / "model.ckpt-9", variables(checkpoint))
    assert "there are 2 checkpoints: model.ckpt-7, model.ckpt-9" in refusal(folder)
    assert same_tensors(import_path(folder / "model.ckpt-9").checkpoint, checkpoint)


def test_a_copy_of_the_module_of_tf_hub_needs_no_options(shared_data):
    imported = import_path(shared_data / "migration-golden" / "tfhub-variables")
    assert imported.format == "a copy of TF Hub's module"
    fixture = shared_data / "elmo-fixtures" / "bilm-tf" / "model"
    expected = import_hdf5(fixture / "options.json", fixture / "lm_weights.hdf5")
    assert same_tensors(imported.checkpoint, expected)
    assert imported.checkpoint.config == replace(expected.config, use_skip_connections=True)
    [mix] = imported.checkpoint.mixes
    assert mix.weights == pytest.approx((0.1, -0.2, 0.3)) and mix.gamma == 1.25


def test_a_copy_of_the_module_is_read_from_its_archive(shared_data, tmp_path):
    folder = shared_data / "migration-golden" / "tfhub-variables"
    archive = shutil.make_archive(str(tmp_path / "elmo"), "gztar", folder)
    assert import_path(tmp_path / archive).checkpoint.mixes[0].name == "tfhub"
