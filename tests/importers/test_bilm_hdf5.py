"""Published files -> checkpoint -> bit-identical published files."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import h5py
import numpy as np
import pytest

from elmo_deploy.importers.bilm_hdf5 import export_hdf5, import_hdf5
from elmo_deploy.importers.bilm_layout import entries
from elmo_deploy.importers.options import read_options
from elmo_runtime.config import ElmoConfig
from elmo_runtime.errors import CheckpointError, InputError
from golden import GOLDEN
from random_models import random_checkpoint, tiny_config

MODELS = {
    "published structure": {},
    "one layer, tanh, no skip": {
        "n_layers": 1,
        "activation": "tanh",
        "use_skip_connections": False,
    },
    "three layers, one highway": {"n_layers": 3, "n_highway": 1},
    "no highway, no clips": {"n_highway": 0, "cell_clip": None, "proj_clip": None},
    "other filters": {"filters": ((7, 2), (1, 9)), "max_characters_per_token": 20},
}


def datasets(path):
    found = {}

    def keep(name, node):
        if isinstance(node, h5py.Dataset):
            found[name] = (node.dtype, node.shape, node[...].tobytes())

    with h5py.File(path) as file:
        file.visititems(keep)
    return found


def same(one, other):
    assert one.config == other.config
    assert one.tensors.keys() == other.tensors.keys()
    return all(one.tensors[n].tobytes() == other.tensors[n].tobytes() for n in one.tensors)


@pytest.mark.parametrize("changes", MODELS.values(), ids=MODELS)
def test_a_model_survives_the_way_there_and_back(changes, tmp_path):
    checkpoint = random_checkpoint(tiny_config(**changes))
    files = tmp_path / "options.json", tmp_path / "weights.hdf5"
    export_hdf5(checkpoint, *files)
    assert same(import_hdf5(*files), checkpoint)


@pytest.mark.parametrize("golden", GOLDEN, ids=lambda golden: golden.folder)
def test_the_authors_files_come_back_bit_identical(golden, shared_data, tmp_path):
    options, weights = golden.files(shared_data)
    export_hdf5(import_hdf5(options, weights), tmp_path / "options.json", tmp_path / "weights.hdf5")
    assert datasets(tmp_path / "weights.hdf5") == datasets(weights)
    ours, theirs = (json.loads(p.read_text()) for p in (tmp_path / "options.json", options))
    assert ElmoConfig.from_options(ours) == ElmoConfig.from_options(theirs)


def test_the_softmax_travels_with_the_model(published):
    checkpoint = import_hdf5(*published)
    softmax = {"softmax.weight": np.ones((11, 8), "f4"), "softmax.bias": np.arange(11, dtype="f4")}
    with_softmax = replace(checkpoint, tensors={**checkpoint.tensors, **softmax})
    export_hdf5(with_softmax, *published)
    assert same(import_hdf5(*published), with_softmax)


def test_the_same_model_gives_the_same_bytes(tiny_checkpoint, published, tmp_path):
    export_hdf5(tiny_checkpoint, tmp_path / "options.again", tmp_path / "weights.again")
    assert (tmp_path / "weights.again").read_bytes() == published.weights.read_bytes()
    assert (tmp_path / "options.again").read_bytes() == published.options.read_bytes()


@pytest.mark.parametrize("n_characters", [261, 262])
def test_training_and_inference_options_are_both_read(published, tiny_checkpoint, n_characters):
    options = json.loads(published.options.read_text())
    options["char_cnn"]["n_characters"] = n_characters
    options |= {"dropout": 0.1, "n_tokens_vocab": 793471, "bidirectional": True}
    published.options.write_text(json.dumps(options))
    assert same(import_hdf5(*published), tiny_checkpoint)


def put(path, name, array):
    with h5py.File(path, "r+") as file:
        del file[name]
        file[name] = array


def test_an_embedding_with_its_padding_row_is_read_without_it(published, tiny_checkpoint):
    rows = tiny_checkpoint.tensors["char_cnn.embedding"]
    put(published.weights, "char_embed", np.pad(rows, [(1, 0), (0, 0)]))
    assert same(import_hdf5(*published), tiny_checkpoint)


def test_float64_weights_are_rounded_to_float32(published, tiny_checkpoint):
    rows = tiny_checkpoint.tensors["char_cnn.embedding"].astype(np.float64)
    put(published.weights, "char_embed", rows)
    assert same(import_hdf5(*published), tiny_checkpoint)


def test_the_source_is_remembered(published):
    assert len(import_hdf5(*published).provenance["imported weights sha256"]) == 64


def test_the_layer_mix_stays_behind(tiny_checkpoint, published):
    mix = {"layer_mix.weights": np.zeros((1, 3), "f4"), "layer_mix.gamma": np.ones(1, "f4")}
    export_hdf5(
        replace(tiny_checkpoint, tensors={**tiny_checkpoint.tensors, **mix}),
        *published,
    )
    assert same(import_hdf5(*published), tiny_checkpoint)


@pytest.mark.parametrize(
    "tensors",
    [
        {"softmax.weight": np.ones((3, 8), "f4")},
        {"softmax.weight": np.ones((3, 8), "f4"), "softmax.bias": np.ones(4, "f4")},
        {"softmax.weight": np.ones((3, 7), "f4"), "softmax.bias": np.ones(3, "f4")},
        {"layer_mix.weights": np.ones((1, 2), "f4"), "layer_mix.gamma": np.ones(1, "f4")},
    ],
)
def test_a_checkpoint_with_half_a_softmax_or_mix_is_refused(tensors, tiny_checkpoint):
    with pytest.raises(CheckpointError, match=next(iter(tensors)).split(".")[0]):
        replace(tiny_checkpoint, tensors={**tiny_checkpoint.tensors, **tensors})


@pytest.mark.parametrize(
    ("options", "millions"),
    [
        ("elmo_2x1024_128_2048cnn_1xhighway_options.json", 13.6),
        ("elmo_2x4096_512_2048cnn_2xhighway_options.json", 93.6),
    ],
)
def test_official_options_give_the_published_sizes(options, millions, shared_data):
    config = ElmoConfig.from_options(read_options(shared_data / "elmo-official-options" / options))
    weights = sum(math.prod(entry.shape) for entry in entries(config))
    assert weights / 1e6 == pytest.approx(millions, abs=0.05)


def test_published_options_are_not_replaced(tiny_checkpoint, tmp_path):
    """`import --to-hdf5 -o FOLDER` replaced an original options.json and its training options."""
    options, weights = tmp_path / "options.json", tmp_path / "weights.hdf5"
    for _ in range(2):  # what we wrote ourselves may be replaced
        export_hdf5(tiny_checkpoint, options, weights)
    options.write_text(json.dumps(json.loads(options.read_text()) | {"n_train_tokens": 1}))
    before = options.read_bytes(), weights.read_bytes()
    with pytest.raises(InputError, match="was not written by elmo-deploy"):
        export_hdf5(tiny_checkpoint, options, weights)
    assert before == (options.read_bytes(), weights.read_bytes())
