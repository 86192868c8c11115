"""The classes of AllenNLP against vectors that AllenNLP computed."""

from __future__ import annotations

import io
import json
import tarfile

import h5py
import numpy as np
import pytest
import torch

from elmo_deploy.importers.bilm_hdf5 import export_hdf5
from elmo_deploy.integrations.allennlp import (
    Elmo,
    ElmoEmbedder,
    ElmoTokenEmbedder,
    ScalarMix,
    batch_to_ids,
    remove_sentence_boundaries,
)
from elmo_deploy.model import Elmo as ReferenceElmo
from elmo_runtime.errors import InputError
from golden import GOLDEN
from tolerances import GOLDEN_TORCH, TORCH_FLOAT32

BATCHES = [
    [["The", "cat", "sat", "."], ["Dogs"]],
    [["A", "b"], ["c", "d", "e"], ["f"]],
    [["g"]],
    [["h", "i"], [], ["j", "k", "l", "m"]],
]


@pytest.fixture
def files(tiny_checkpoint, tmp_path):
    paths = tmp_path / "options.json", tmp_path / "weights.hdf5"
    export_hdf5(tiny_checkpoint, *paths)
    return paths


@pytest.fixture
def layers(tiny_checkpoint):
    """The layers of a batch from the zero state, by the reference model."""
    model = ReferenceElmo.from_checkpoint(tiny_checkpoint)

    def run(batch, state=None):
        with torch.no_grad():
            return model(batch_to_ids(batch), state)

    return run


def close(found, expected, tolerance=TORCH_FLOAT32):
    np.testing.assert_allclose(found.detach(), expected.detach(), rtol=0, atol=tolerance)


def test_a_trained_token_embedder_loads_by_its_names_and_gives_its_vectors(shared_data):
    folder = shared_data / "migration-golden" / "allennlp-archive"
    golden = np.load(folder / "golden.npz")
    embedder = ElmoTokenEmbedder(*GOLDEN[1].files(shared_data), dropout=0.0)
    with tarfile.open(folder / "model.tar.gz") as tar:
        content = io.BytesIO(tar.extractfile("weights.th").read())
    trained = torch.load(content, weights_only=True)
    prefix = "text_field_embedder.token_embedder_elmo."
    own = {n.removeprefix(prefix): t for n, t in trained.items() if n.startswith(prefix)}
    embedder.load_state_dict(own)
    with torch.no_grad():
        found = embedder(torch.from_numpy(golden["ids"]))
    close(found, torch.from_numpy(golden["vectors"]), GOLDEN_TORCH)
    state = embedder.state_dict()
    assert state.keys() == own.keys()
    for name, tensor in own.items():
        close(state[name], tensor, 1.2e-7)  # the forget bias is rounded when 1 is added


@pytest.mark.parametrize("golden", GOLDEN, ids=lambda golden: golden.folder)
def test_the_top_layer_is_the_golden_one_with_carried_states(golden, shared_data):
    embedder = ElmoEmbedder(*golden.files(shared_data))
    expected = golden.top_layers(shared_data)
    for batch, vectors in zip(golden.batches(shared_data), expected, strict=True):
        found = embedder.embed_batch(batch)
        for row, values in vectors.items():
            np.testing.assert_allclose(found[row][-1], values, rtol=0, atol=GOLDEN_TORCH)


def test_rows_continue_and_survive_smaller_batches(files, layers):
    """A smaller batch keeps the states of the other rows; a larger one starts them from zero."""
    elmo = Elmo(*files, 1, dropout=0.0)
    state = None
    for batch in BATCHES:
        output = layers([*batch, *[["pad"]] * (3 - len(batch))], None if state is None else state)
        found = elmo(batch_to_ids(batch))
        close(
            found["elmo_representations"][0], output.elmo[0][: len(batch), : found["mask"].shape[1]]
        )
        if state is None:
            state = type(output.state)(*(torch.zeros_like(part) for part in output.state))
        state = type(state)(
            *(
                torch.cat([new[:, :, : len(batch)], old[:, :, len(batch) :]], dim=2)
                for new, old in zip(output.state, state, strict=True)
            )
        )


def test_stateful_false_repeats_its_vectors(files, layers):
    elmo = Elmo(*files, 2, dropout=0.0, stateful=False)
    ids = batch_to_ids(BATCHES[0])
    first, second = (elmo(ids)["elmo_representations"] for _ in range(2))
    assert torch.equal(first[0], second[1])
    close(first[0], layers(BATCHES[0]).elmo[0])


def test_sentence_boundaries_can_be_kept(files):
    ids = batch_to_ids(BATCHES[0])
    kept = Elmo(*files, 1, dropout=0.0, keep_sentence_boundaries=True)(ids)
    inner, mask = remove_sentence_boundaries(kept["elmo_representations"][0], kept["mask"])
    plain = Elmo(*files, 1, dropout=0.0)(ids)
    assert kept["mask"].shape == (2, 6) and torch.equal(mask, plain["mask"])
    close(inner, plain["elmo_representations"][0])


def test_scalar_mix_parameters_are_frozen_with_gamma(files, layers):
    elmo = Elmo(*files, 1, dropout=0.0, scalar_mix_parameters=[-9e10, 1, -9e10])
    assert not any(parameter.requires_grad for parameter in elmo.parameters())
    close(elmo(batch_to_ids(BATCHES[0]))["elmo_representations"][0], layers(BATCHES[0]).layers[1])


def test_the_layer_norm_counts_the_entire_batch(files):
    elmo = Elmo(*files, 1, do_layer_norm=True, dropout=0.0, keep_sentence_boundaries=True)
    found = elmo(batch_to_ids(BATCHES[1]))
    layers, mask = Elmo(*files, 1)._elmo_lstm(batch_to_ids(BATCHES[1]))
    expected = 0
    for layer in layers:
        real = layer[mask]
        expected = expected + (layer - real.mean()) / (real.var(correction=0) + 1e-13).sqrt() / 3
    close(found["elmo_representations"][0], expected)


def test_inputs_of_four_dimensions_keep_their_shape(files):
    ids = batch_to_ids(BATCHES[1] + BATCHES[0] + [["x"]]).unflatten(0, (2, 3))
    found = Elmo(*files, 1, dropout=0.0)(ids)
    assert found["elmo_representations"][0].shape == (2, 3, 4, 16)
    assert found["mask"].tolist()[1][0] == [True] * 4


def test_cached_words_equal_characters(files):
    vocabulary = ["@@PADDING@@", "The", "cat", "sat", ".", "Dogs"]
    elmo = Elmo(*files, 1, dropout=0.0, vocab_to_cache=vocabulary)
    ids = batch_to_ids(BATCHES[0])
    words = torch.tensor([[1, 2, 3, 4], [5, 0, 0, 0]])
    expected = Elmo(*files, 1, dropout=0.0)(ids)["elmo_representations"][0]
    close(elmo(torch.zeros_like(ids), words)["elmo_representations"][0], expected)
    elmo._elmo_lstm.reset_states()
    unknown = torch.tensor([[1, 2, 3, 99], [5, 0, 0, 0]])
    close(elmo(ids, unknown)["elmo_representations"][0], expected)


def test_word_inputs_without_a_cache_are_ignored_with_a_warning(files):
    with pytest.warns(UserWarning, match="no vocabulary is cached"):
        Elmo(*files, 1)(batch_to_ids(BATCHES[0]), torch.ones(2, 4, dtype=torch.long))


def test_dropout_acts_on_the_output_in_training_only(files):
    elmo, ids = Elmo(*files, 1, dropout=0.5, stateful=False), batch_to_ids(BATCHES[0])
    vectors = elmo(ids)["elmo_representations"][0]
    plain = elmo.eval()(ids)["elmo_representations"][0]
    dropped = (vectors == 0) & (plain != 0)
    assert dropped.any()
    close(vectors[~dropped], 2 * plain[~dropped])


def test_the_bilm_trains_only_on_request(files):
    for requires_grad in (False, True):
        elmo = Elmo(*files, 1, requires_grad=requires_grad)
        elmo(batch_to_ids(BATCHES[0]))["elmo_representations"][0].sum().backward()
        assert elmo.scalar_mix_0.gamma.grad is not None
        assert (elmo._elmo_lstm.bilm.forward_stack.layers[0].bias.grad is not None) == requires_grad


def test_a_projection_has_its_own_width(files):
    embedder = ElmoTokenEmbedder(*files, projection_dim=5)
    assert embedder(batch_to_ids(BATCHES[0])).shape == (2, 4, 5) and embedder.get_output_dim() == 5


def test_files_or_a_module_are_required(files):
    shared = Elmo(*files, 1)._elmo_lstm
    assert Elmo(num_output_representations=1, module=shared).get_output_dim() == 16
    for arguments in ({}, {"module": shared, "options_file": files[0], "weight_file": files[1]}):
        with pytest.raises(InputError, match="pass options_file and weight_file, or module"):
            Elmo(num_output_representations=1, **arguments)


def test_a_scalar_mix_of_another_size_is_refused():
    with pytest.raises(ValueError, match="2 scalar parameters are given for 3 layers"):
        ScalarMix(3, initial_scalar_parameters=[0.0, 1.0])


def test_an_embedder_returns_arrays(files):
    embedder = ElmoEmbedder(*files)
    assert embedder.embed_sentence(["a", "b"]).shape == (3, 2, 16)
    assert embedder.embed_sentence([]).shape == (3, 0, 16)
    assert [a.shape for a in embedder.embed_sentences(BATCHES[1], batch_size=2)] == [
        (3, 2, 16),
        (3, 3, 16),
        (3, 1, 16),
    ]


@pytest.mark.parametrize(
    ("output_format", "shape"), [("all", (3, 2, 16)), ("top", (2, 16)), ("average", (2, 16))]
)
def test_a_file_is_embedded_as_by_allennlp(files, tmp_path, output_format, shape):
    path = tmp_path / "out.hdf5"
    ElmoEmbedder(*files).embed_file(io.StringIO("a b\nc\n"), path, output_format)
    with h5py.File(path) as file:
        assert file["0"].shape == shape
        assert json.loads(file["sentence_to_index"][0]) == {"a b": "0", "c": "1"}


def test_a_blank_line_is_refused(files, tmp_path):
    with pytest.raises(InputError, match="line 2 is blank"):
        ElmoEmbedder(*files).embed_file(io.StringIO("a\n\nb\n"), tmp_path / "out.hdf5")
    assert not (tmp_path / "out.hdf5").exists()
