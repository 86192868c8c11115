"""A checkpoint survives a round trip through the disk; a corrupt one is a one-line error."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file
from safetensors.torch import save_file as save_torch

from elmo_export.checkpoint import Checkpoint
from elmo_export.own_files import SOFTMAX
from elmo_runtime.errors import CheckpointError, ConfigError, InputError
from elmo_runtime.files.atomic import sha256_of
from random_models import random_checkpoint, tiny_config


def test_a_checkpoint_survives_the_disk(tiny_checkpoint, tmp_path):
    tiny_checkpoint.write(tmp_path / "checkpoint")
    back = Checkpoint.read(tmp_path / "checkpoint")
    assert back.config == tiny_checkpoint.config
    assert all((back.tensors[n] == t).all() for n, t in tiny_checkpoint.tensors.items())


def test_half_precision_takes_half_the_space_and_is_widened_again(tiny_checkpoint, tmp_path):
    tiny_checkpoint.write(tmp_path / "full")
    tiny_checkpoint.write(tmp_path / "half", half=True)
    sizes = [(tmp_path / name / "model.safetensors").stat().st_size for name in ("full", "half")]
    back = Checkpoint.read(tmp_path / "half")
    assert sizes[1] < 0.6 * sizes[0]
    for name, tensor in tiny_checkpoint.tensors.items():
        assert back.tensors[name].dtype == np.float32
        assert (back.tensors[name] == tensor.astype(np.float16)).all()


def test_weights_beyond_half_precision_are_rejected(tmp_path):
    checkpoint = random_checkpoint(tiny_config())
    checkpoint.tensors["char_cnn.projection.bias"][0] = 1e6
    with pytest.raises(CheckpointError, match="beyond float16"):
        checkpoint.write(tmp_path / "half", half=True)
    assert not (tmp_path / "half").exists()


def test_integer_weights_are_rejected(tiny_checkpoint, tmp_path):
    tiny_checkpoint.write(tmp_path / "checkpoint")
    weights = tmp_path / "checkpoint" / "model.safetensors"
    tensors = load_file(weights)
    tensors["char_cnn.projection.bias"] = tensors["char_cnn.projection.bias"].astype(np.int32)
    save_file(tensors, weights)
    with pytest.raises(CheckpointError, match=r"projection\.bias is int32"):
        Checkpoint.read(tmp_path / "checkpoint")


def test_the_digest_in_the_provenance_is_that_of_the_current_weights(tiny_checkpoint, tmp_path):
    """A checkpoint that was changed and written again kept the digest of the old weights."""
    tiny_checkpoint.write(tmp_path / "first")
    Checkpoint.read(tmp_path / "first").write(tmp_path / "second", half=True)
    digest = Checkpoint.read(tmp_path / "second").provenance["model.safetensors sha256"]
    assert digest == sha256_of(tmp_path / "second" / "model.safetensors")


@pytest.mark.parametrize("end", ["\n", ""])
def test_the_last_word_of_a_vocabulary_needs_no_line_end(end, tiny_checkpoint, tmp_path):
    """Without a line end the last word was lost."""
    tiny_checkpoint.write(tmp_path / "checkpoint")
    (tmp_path / "checkpoint" / "vocab.txt").write_text(f"<S>\n</S>\n<UNK>\nlast{end}")
    assert Checkpoint.read(tmp_path / "checkpoint").vocabulary == ("<S>", "</S>", "<UNK>", "last")


def test_bfloat16_is_a_checkpoint_error(tiny_checkpoint, tmp_path):
    """It was a TypeError, unless another package had registered the type with numpy."""
    tiny_checkpoint.write(tmp_path / "checkpoint")
    weights = tmp_path / "checkpoint" / "model.safetensors"
    save_torch({"t": torch.zeros(1, dtype=torch.bfloat16)}, weights)
    with pytest.raises(CheckpointError, match="bfloat16"):
        Checkpoint.read(tmp_path / "checkpoint")


@pytest.mark.parametrize(
    ("provenance", "said"), [("[" * 100_000, "is not JSON"), ('["the web"]', "provenance is")]
)
def test_a_malformed_config_is_a_config_error(provenance, said, tiny_checkpoint, tmp_path):
    """Deeply nested brackets were a RecursionError, and a list as provenance was a ValueError."""
    tiny_checkpoint.write(tmp_path / "checkpoint")
    (tmp_path / "checkpoint" / "config.json").write_text(f'{{"provenance": {provenance}}}')
    with pytest.raises(ConfigError, match=said):
        Checkpoint.read(tmp_path / "checkpoint")


def with_softmax(checkpoint: Checkpoint, words: int = 5) -> Checkpoint:
    width = checkpoint.config.projection_dim
    softmax = {
        "softmax.weight": np.arange(words * width, dtype=np.float32).reshape(words, width),
        "softmax.bias": np.ones(words, np.float32),
    }
    return dataclasses.replace(checkpoint, tensors={**checkpoint.tensors, **softmax})


def test_the_softmax_is_in_a_separate_file(tiny_checkpoint, tmp_path):
    """It was a part of model.safetensors, although no vector needs it."""
    checkpoint = with_softmax(tiny_checkpoint)
    checkpoint.write(tmp_path / "checkpoint")
    assert set(load_file(tmp_path / "checkpoint" / "softmax.safetensors")) == set(SOFTMAX)
    assert not set(SOFTMAX) & set(load_file(tmp_path / "checkpoint" / "model.safetensors"))
    back = Checkpoint.read(tmp_path / "checkpoint")
    assert all((back.tensors[n] == t).all() for n, t in checkpoint.tensors.items())


def test_a_checkpoint_can_be_read_without_its_softmax(tiny_checkpoint, tmp_path):
    with_softmax(tiny_checkpoint).write(tmp_path / "checkpoint")
    (tmp_path / "checkpoint" / "softmax.safetensors").unlink()
    assert not set(SOFTMAX) & set(Checkpoint.read(tmp_path / "checkpoint").tensors)


def in_one_file(checkpoint: Checkpoint, folder: Path) -> None:
    """Write a checkpoint as earlier versions did."""
    checkpoint.write(folder)
    save_file(dict(checkpoint.tensors), folder / "model.safetensors")
    (folder / "softmax.safetensors").unlink()


def test_a_checkpoint_in_one_file_is_read_and_replaced(tiny_checkpoint, tmp_path):
    checkpoint = with_softmax(tiny_checkpoint)
    in_one_file(checkpoint, tmp_path / "old")
    back = Checkpoint.read(tmp_path / "old")
    assert all((back.tensors[n] == t).all() for n, t in checkpoint.tensors.items())
    back.write(tmp_path / "old")
    assert (tmp_path / "old" / "softmax.safetensors").is_file()


def test_a_checkpoint_without_softmax_replaces_one_that_has_it(tiny_checkpoint, tmp_path):
    """The softmax of the old model must not stay, because the new model would be read with it."""
    with_softmax(tiny_checkpoint).write(tmp_path / "checkpoint")
    (tmp_path / "checkpoint" / "notes.txt").write_text("mine")
    tiny_checkpoint.write(tmp_path / "checkpoint")
    assert {path.name for path in (tmp_path / "checkpoint").iterdir()} == {
        "config.json", "model.safetensors", "notes.txt"
    }  # fmt: skip


def test_a_foreign_softmax_file_is_never_replaced(tiny_checkpoint, tmp_path):
    tiny_checkpoint.write(tmp_path / "checkpoint")
    save_file({"weight": np.ones((2, 2), np.float32)}, tmp_path / "checkpoint/softmax.safetensors")
    with pytest.raises(InputError, match=r"holds softmax\.safetensors, not written"):
        with_softmax(tiny_checkpoint).write(tmp_path / "checkpoint")


def test_two_softmaxes_are_refused(tiny_checkpoint, tmp_path):
    checkpoint = with_softmax(tiny_checkpoint)
    checkpoint.write(tmp_path / "checkpoint")
    save_file(dict(checkpoint.tensors), tmp_path / "checkpoint" / "model.safetensors")
    with pytest.raises(CheckpointError, match=r"both hold softmax\.bias, softmax\.weight"):
        Checkpoint.read(tmp_path / "checkpoint")


def test_other_tensors_in_the_file_of_the_softmax_are_refused(tiny_checkpoint, tmp_path):
    tiny_checkpoint.write(tmp_path / "checkpoint")
    save_file({"more": np.ones(2, np.float32)}, tmp_path / "checkpoint" / "softmax.safetensors")
    with pytest.raises(CheckpointError, match=r"softmax\.safetensors holds more, not only a"):
        Checkpoint.read(tmp_path / "checkpoint")
