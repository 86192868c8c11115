"""Edge cases of the model: lengths, masks, states and gaps."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import oracle
from elmo_deploy.model import Elmo, LstmState
from elmo_deploy.model.reference import reference
from elmo_runtime.errors import CheckpointError, InputError
from random_models import random_checkpoint, tiny_config


@pytest.fixture(scope="module")
def model():
    return Elmo.from_checkpoint(random_checkpoint(tiny_config())).eval()


def ids_of(*sentences):
    return torch.tensor(oracle.padded_ids(sentences))


def test_rows_past_a_sentence_are_exactly_zero(model):
    out = model(ids_of(["a", "b", "c"], ["d"], []))
    for tensor in [out.word_emb, *out.layers, *out.elmo]:
        assert not tensor[1, 1:].any()
        assert not tensor[2].any()
    assert not out.default[0][2].any()


def test_a_batch_of_empty_sentences_has_zeros_and_still_moves_the_state(model):
    out = model(torch.zeros(2, 3, 50, dtype=torch.int32))
    assert not out.elmo[0].any()
    assert not out.default[0].any()
    assert out.state.h.any()  # the LSTMs read both boundary tokens


@pytest.mark.parametrize("shape", [(2, 0, 50), (0, 3, 50), (0, 0, 50)])
def test_a_batch_without_tokens_or_sentences_gives_arrays_of_its_shape(model, shape):
    out = model(torch.zeros(shape, dtype=torch.int32))
    assert out.elmo[0].shape == (*shape[:2], 16)
    assert out.default[0].shape == (shape[0], 16)
    assert out.state.h.shape == (2, 2, shape[0], 8)


def test_vectors_are_batch_invariant(model):
    with torch.no_grad():
        alone = model(ids_of(["a", "b"])).elmo[0][0]
        among = model(ids_of(["x"] * 5, ["a", "b"], [])).elmo[0][1, :2]
    torch.testing.assert_close(alone, among, atol=1e-6, rtol=0)


def test_the_state_of_a_row_ends_where_its_sentence_ends(model):
    with torch.no_grad():
        alone, among = model(ids_of(["a"])).state, model(ids_of(["a"], ["x"] * 6)).state
    torch.testing.assert_close(alone.h[:, :, 0], among.h[:, :, 0], atol=1e-6, rtol=0)
    torch.testing.assert_close(alone.c[:, :, 0], among.c[:, :, 0], atol=1e-6, rtol=0)


def test_a_gap_between_tokens_is_refused(model):
    ids = ids_of(["a", "b"], ["a", "b", "c"])
    ids[1, 1] = 0
    with pytest.raises(InputError, match=r"char_ids\[1, 1\] is empty"):
        model(ids)


@pytest.mark.parametrize("wrong", [-1, 262])
def test_an_id_that_no_character_has_is_refused(model, wrong):
    ids = ids_of(["a"])
    ids[0, 0, 3] = wrong
    with pytest.raises(InputError, match=r"outside 0\.\.261"):
        model(ids)


def test_the_state_of_another_batch_is_refused(model):
    """A state of one row was silently shared by every row of the batch."""
    state = model(ids_of(["a"])).state
    with pytest.raises(InputError, match="this batch needs"):
        model(ids_of(["a"], ["b"]), state)


def test_int64_ids_are_as_good_as_int32(model):
    with torch.no_grad():
        assert torch.equal(model(ids_of(["a"])).elmo[0], model(ids_of(["a"]).long()).elmo[0])


def test_the_reference_refuses_lengths_that_the_ids_contradict():
    run = reference(random_checkpoint(tiny_config()))
    h, c = np.zeros((2, 2, 1, 8)), np.zeros((2, 2, 1, 24))
    with pytest.raises(InputError, match="lengths"):
        run(oracle.padded_ids([["a", "b"]]), np.array([1]), h, c)


def test_a_checkpoint_survives_the_model():
    checkpoint = random_checkpoint(tiny_config())
    back = Elmo.from_checkpoint(checkpoint).to_checkpoint(vocabulary=["<S>", "</S>", "<UNK>"])
    assert back.config == checkpoint.config
    assert back.vocabulary == ("<S>", "</S>", "<UNK>")
    for name, tensor in checkpoint.tensors.items():
        assert back.tensors[name].tobytes() == tensor.tobytes()


def test_a_checkpoint_directory_opens_with_its_mixes(tmp_path):
    model = Elmo(tiny_config(), n_mixes=2)
    with torch.no_grad():
        model.layer_mix.weights[1, 2] = 3.0
    model.to_checkpoint().write(tmp_path / "checkpoint")
    assert Elmo.from_checkpoint(tmp_path / "checkpoint").layer_mix.weights[1, 2] == 3.0
    with pytest.raises(InputError, match="holds 2 layer mixes"):
        Elmo.from_checkpoint(tmp_path / "checkpoint", n_mixes=3)
    with pytest.raises(CheckpointError, match="does not exist"):
        Elmo.from_checkpoint(tmp_path / "nowhere")


def test_a_checkpoint_keeps_the_names_of_its_mixes_and_their_layer_norm(tmp_path):
    """do_layer_norm was lost on the way through a file, and mixes had no names."""
    model = Elmo(tiny_config(), mix_names=["ner", "pos"], do_layer_norm=[True, False])
    model.to_checkpoint().write(tmp_path / "checkpoint")
    back = Elmo.from_checkpoint(tmp_path / "checkpoint")
    assert back.mix_names == ("ner", "pos")
    assert back.layer_mix.do_layer_norm == (True, False)


def test_a_caller_may_rename_mixes_and_change_their_layer_norm():
    checkpoint = Elmo(tiny_config(), n_mixes=2, do_layer_norm=True).to_checkpoint()
    model = Elmo.from_checkpoint(checkpoint, mix_names=["a", "b"], do_layer_norm=False)
    assert (model.mix_names, model.layer_mix.do_layer_norm) == (("a", "b"), (False, False))


@pytest.mark.parametrize("names", ["ner", ["ner"], ["ner", "pos", "srl"]])
def test_there_is_one_name_per_mix(names):
    with pytest.raises(InputError, match="mix_names is"):
        Elmo(tiny_config(), n_mixes=2, mix_names=names)


def test_the_arrays_of_a_checkpoint_are_its_own():
    model = Elmo(tiny_config())
    checkpoint = model.to_checkpoint()
    with torch.no_grad():
        model.char_cnn.embedding.zero_()
    assert checkpoint.tensors["char_cnn.embedding"].any()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_on_cuda_it_computes_what_it_computes_on_the_cpu(model):
    ids = ids_of(["a", "b", "c"], [], ["日本語"])
    with torch.no_grad():
        here = model(ids)
        there = Elmo.from_checkpoint(model.to_checkpoint()).cuda()(
            ids.cuda(), LstmState(*(torch.zeros_like(part).cuda() for part in here.state))
        )
    torch.testing.assert_close(here.elmo[0], there.elmo[0].cpu(), atol=1e-4, rtol=0)


def test_the_seed_decides_the_initial_weights():
    weights = [Elmo(tiny_config(), seed=seed).char_cnn.embedding for seed in (0, 0, 1)]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


def test_the_name_of_another_dropout_is_refused_with_a_hint():
    """`dropout` acted inside the biLM, but AllenNLP users know it as that of the output."""
    checkpoint = Elmo(tiny_config()).to_checkpoint()
    for make, given in ((Elmo, tiny_config()), (Elmo.from_checkpoint, checkpoint)):
        with pytest.raises(InputError, match=r"no argument dropout .*0\.5") as refused:
            make(given, dropout=0.5)
        assert "lstm_input_dropout" in refused.value.hint
