"""Common readers read back what was written."""

import json

import h5py
import numpy as np
import pytest
import safetensors.numpy

from elmo_runtime.bulk.writers import open_writer
from elmo_runtime.errors import InputError

SENTENCES = ["the cat", "", "dogs are in the fog", "the cat"]
TOKENS = [
    rng.normal(size=(len(text.split()), 6)).astype(np.float32)
    for rng in [np.random.default_rng(3)]
    for text in SENTENCES
]
LAYERS = [np.stack([vectors, 2 * vectors, 3 * vectors]) for vectors in TOKENS]


def write(path, vectors, row_shape=(6,), **options):
    with open_writer(path, row_shape=row_shape, **options) as writer:
        for sentence, rows in zip(SENTENCES, vectors, strict=True):
            writer.add(sentence, rows)
    return path


def read_flat(path):
    if path.suffix == ".npz":
        with np.load(path) as arrays:
            return arrays["vectors"], arrays["offsets"]
    arrays = safetensors.numpy.load_file(path)
    return arrays["vectors"], arrays["offsets"]


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_hdf5_has_one_dataset_per_sentence_in_the_layout_of_allennlp(tmp_path, dtype):
    with h5py.File(write(tmp_path / "out.hdf5", LAYERS, (3, 6), dtype=dtype)) as file:
        assert sorted(file) == ["0", "1", "2", "3", "sentence_to_index"]
        assert file["2"].shape == (3, 5, 6) and file["2"].dtype == dtype
        assert (file["2"][:] == LAYERS[2].astype(dtype)).all()
        assert file["1"].shape == (3, 0, 6)
        assert file["sentence_to_index"].shape == (1,)
        index = json.loads(file["sentence_to_index"].asstr()[0])
    assert index == {"the cat": "3", "": "1", "dogs are in the fog": "2"}


def test_hdf5_forgets_the_sentences_when_asked(tmp_path):
    with h5py.File(write(tmp_path / "out.hdf5", TOKENS, keys="forget")) as file:
        assert sorted(file) == ["0", "1", "2", "3"]


def test_hdf5_datasets_can_be_named_by_their_sentences(tmp_path):
    with (
        pytest.warns(UserWarning, match="sentence 2 repeats"),
        open_writer(tmp_path / "out.hdf5", row_shape=(6,), keys="sentence") as writer,
    ):
        writer.add("the cat", TOKENS[0])
        writer.add("the cat", TOKENS[3])
    with h5py.File(tmp_path / "out.hdf5") as file:
        assert list(file) == ["the cat"] and (file["the cat"][:] == TOKENS[0]).all()


def test_a_slash_in_a_sentence_makes_a_group_as_in_allennlp(tmp_path):
    """Files with dates and "and/or" could not be written; AllenNLP's scripts look them up."""
    sentences = ["he and/or she", "1/2 of it", "a", "1/3"]
    with open_writer(tmp_path / "out.hdf5", row_shape=(6,), keys="sentence") as writer:
        for number, sentence in enumerate(sentences):
            writer.add(sentence, TOKENS[0] + number)
    with h5py.File(tmp_path / "out.hdf5") as file:
        for number, sentence in enumerate(sentences):
            assert (file[sentence][()] == TOKENS[0] + number).all()


@pytest.mark.parametrize(
    "sentences",
    [[""], ["."], ["a\0b"], ["/"], ["a//b"], ["./a"], ["a/"], ["a", "a/b"], ["a/b", "a"]],
)
def test_a_sentence_that_cannot_name_a_dataset_leaves_no_file(tmp_path, sentences):
    """HDF5 takes "a//b" for "a/b": a script would find the vectors of another sentence."""
    with (
        pytest.raises(InputError, match=f"sentence {len(sentences)} cannot name"),
        open_writer(tmp_path / "out.hdf5", row_shape=(6,), keys="sentence") as writer,
    ):
        for sentence in sentences:
            writer.add(sentence, TOKENS[0])
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("suffix", [".npz", ".safetensors"])
@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_flat_files_are_cut_by_their_offsets(tmp_path, suffix, dtype):
    vectors, offsets = read_flat(write(tmp_path / f"out{suffix}", TOKENS, dtype=dtype))
    assert offsets.tolist() == [0, 2, 2, 7, 9] and vectors.dtype == dtype
    for index, rows in enumerate(TOKENS):
        assert (vectors[offsets[index] : offsets[index + 1]] == rows.astype(dtype)).all()


@pytest.mark.parametrize("suffix", [".npz", ".safetensors"])
def test_flat_files_keep_all_layers_of_a_token_together(tmp_path, suffix):
    vectors, offsets = read_flat(write(tmp_path / f"out{suffix}", LAYERS, (3, 6)))
    assert vectors.shape == (9, 3, 6)
    assert (vectors[offsets[2] : offsets[3]].swapaxes(0, 1) == LAYERS[2]).all()


@pytest.mark.parametrize("suffix", [".npz", ".safetensors"])
def test_one_vector_per_sentence_is_one_row_per_sentence(tmp_path, suffix):
    pooled = [np.full(6, number, np.float32) for number in range(4)]
    vectors, offsets = read_flat(write(tmp_path / f"out{suffix}", pooled))
    assert (vectors == np.stack(pooled)).all() and offsets.tolist() == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("suffix", [".hdf5", ".npz", ".safetensors"])
def test_no_sentences_make_an_empty_file(tmp_path, suffix):
    with open_writer(tmp_path / f"out{suffix}", row_shape=(6,)):
        pass
    if suffix == ".hdf5":
        with h5py.File(tmp_path / "out.hdf5") as file:
            assert file["sentence_to_index"].asstr()[0] == "{}"
    else:
        vectors, offsets = read_flat(tmp_path / f"out{suffix}")
        assert vectors.shape == (0, 6) and offsets.tolist() == [0]


@pytest.mark.parametrize("suffix", [".hdf5", ".npz", ".safetensors"])
def test_a_failure_leaves_only_the_old_file(tmp_path, suffix):
    target = tmp_path / f"out{suffix}"
    target.write_bytes(b"old")
    with pytest.raises(ZeroDivisionError), open_writer(target, row_shape=(6,)) as writer:
        writer.add("the cat", TOKENS[0])
        raise ZeroDivisionError
    assert target.read_bytes() == b"old" and list(tmp_path.iterdir()) == [target]


@pytest.mark.parametrize(
    ("name", "options"),
    [("out.txt", {}), ("out.npz", {"dtype": "int8"}), ("out.npz", {"keys": "sentence"})],
)
def test_an_impossible_target_is_refused_before_the_work(tmp_path, name, options):
    with pytest.raises(InputError), open_writer(tmp_path / name, row_shape=(6,), **options):
        raise AssertionError("no block is entered")
    assert not list(tmp_path.iterdir())
