"""Invalid weights are refused in one line with the dataset and both shapes."""

from __future__ import annotations

import json

import h5py
import numpy as np
import pytest

from elmo_deploy.importers.bilm_hdf5 import import_hdf5
from elmo_runtime.errors import ConfigError, WeightsError

CELL = "RNN_1/RNN/MultiRNNCell/Cell1/LSTMCell"


def refusal(published, error=WeightsError):
    with pytest.raises(error) as caught:
        import_hdf5(*published)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def replaced(path, name, **dataset):
    with h5py.File(path, "r+") as file:
        del file[name]
        if dataset:
            file.create_dataset(name, **dataset)


@pytest.mark.parametrize("name", ["char_embed", "CNN_high_0/b_carry", f"{CELL}/W_P_0"])
def test_a_missing_dataset_is_named(published, name):
    replaced(published.weights, name)
    assert f"dataset {name} of shape" in refusal(published)


@pytest.mark.parametrize("name", ["CNN", f"{CELL}/W_P_0"])
def test_a_missing_group_or_a_group_for_a_dataset_is_named(published, name):
    with h5py.File(published.weights, "r+") as file:
        del file[name]
        file.create_group(name)
    assert name in refusal(published)


def test_the_error_of_a_wrong_shape_gives_both_shapes(published):
    replaced(published.weights, f"{CELL}/B", data=np.zeros(95, "f4"))
    assert f"{CELL}/B is (95,), the options say (96,)" in refusal(published)


def test_options_of_a_smaller_model_are_refused(published):
    """The upper layer was once left out without a word."""
    options = json.loads(published.options.read_text())
    options["lstm"]["n_layers"] = 1
    published.options.write_text(json.dumps(options))
    assert "RNN_0/RNN/MultiRNNCell/Cell1/LSTMCell/B has no place" in refusal(published)


@pytest.mark.parametrize("rows", [260, 263])
def test_an_embedding_of_other_rows_is_refused(published, rows):
    replaced(published.weights, "char_embed", data=np.zeros((rows, 4), "f4"))
    assert f"char_embed is ({rows}, 4), the options say (261, 4)" in refusal(published)


def test_an_embedding_of_262_rows_must_begin_with_the_padding_row(published):
    replaced(published.weights, "char_embed", data=np.ones((262, 4), "f4"))
    assert "row 0 is not the padding row" in refusal(published)


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e300])
def test_a_value_that_is_not_finite_is_refused(published, value):
    replaced(published.weights, f"{CELL}/B", data=np.full(96, value))
    assert f"{CELL}/B contains a value that is not finite" in refusal(published)


@pytest.mark.parametrize("dtype", ["i4", "S8", h5py.string_dtype(), h5py.ref_dtype, "c8"])
def test_anything_but_floats_is_refused(published, dtype):
    replaced(published.weights, f"{CELL}/B", shape=(96,), dtype=dtype)
    assert "must be float32" in refusal(published)


def test_a_huge_dataset_that_was_never_written_is_not_allocated(published):
    """Both the options and the file claim 2^47 numbers; reading them would ask for 512 TiB."""
    options = json.loads(published.options.read_text())
    options["char_cnn"]["embedding"]["dim"] = 1 << 39
    published.options.write_text(json.dumps(options))
    replaced(published.weights, "char_embed", shape=(261, 1 << 39), dtype="f4", chunks=(1, 1024))
    assert "far beyond its file" in refusal(published)


def test_an_external_link_is_not_followed(published, tmp_path):
    with h5py.File(tmp_path / "other.hdf5", "w") as other:
        other["B"] = np.zeros(96, "f4")
    with h5py.File(published.weights, "r+") as file:
        del file[f"{CELL}/B"]
        file[f"{CELL}/B"] = h5py.ExternalLink(str(tmp_path / "other.hdf5"), "B")
    assert "is a link" in refusal(published)


def test_a_softmax_behind_an_external_link_is_not_followed(published, tmp_path):
    with h5py.File(published.weights, "r+") as file:
        file["softmax"] = h5py.ExternalLink(str(tmp_path / "other.hdf5"), "/")
    assert "is a link" in refusal(published)


def test_a_virtual_dataset_is_not_followed(published, tmp_path):
    with h5py.File(tmp_path / "other.hdf5", "w") as other:
        other["B"] = np.zeros(96, "f4")
    layout = h5py.VirtualLayout((96,), "f4")
    layout[:] = h5py.VirtualSource(tmp_path / "other.hdf5", "B", (96,))
    with h5py.File(published.weights, "r+") as file:
        del file[f"{CELL}/B"]
        file.create_virtual_dataset(f"{CELL}/B", layout)
    assert "is stored in another file" in refusal(published)


def test_raw_storage_in_another_file_is_not_read(published, tmp_path):
    (tmp_path / "raw").write_bytes(bytes(4 * 96))
    outside = [(str(tmp_path / "raw"), 0, 4 * 96)]
    replaced(published.weights, f"{CELL}/B", shape=(96,), dtype="f4", external=outside)
    assert "is stored in another file" in refusal(published)


@pytest.mark.parametrize("content", [b"", b"not HDF5", b"\x89HDF\r\n\x1a\n" + bytes(100)])
def test_a_file_that_is_not_hdf5_is_refused(published, content):
    published.weights.write_bytes(content)
    assert "cannot be read as HDF5" in refusal(published)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.99])
def test_a_truncated_file_is_refused(published, share):
    content = published.weights.read_bytes()
    published.weights.write_bytes(content[: int(share * len(content))])
    assert "cannot be read as HDF5" in refusal(published)


def test_damaged_structure_gives_our_error_or_none(published):
    """Bits of the headers are flipped; no other exception and no crash may come of it."""
    content, generator = published.weights.read_bytes(), np.random.default_rng(0)
    refused = 0
    for place in generator.integers(0, 2048, 60):
        damaged = bytearray(content)
        damaged[place] ^= 1 << int(generator.integers(8))
        published.weights.write_bytes(damaged)
        try:
            import_hdf5(*published)
        except WeightsError:
            refused += 1
    assert refused > 5


def test_a_directory_or_nothing_is_no_file_of_weights(published):
    published.weights.unlink()
    assert "is not a file" in refusal(published)
    published.weights.mkdir()
    assert "is not a file" in refusal(published)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"{", "is not JSON"),
        (b"\xff", "is not JSON"),
        (b"[" * 100_000, "is not JSON"),
        (b"[]", "must be an object"),
        (b" " * (1 << 21), "at most"),
        (b'{"lstm": {}}', "word-input models have no characters"),
    ],
)
def test_wrong_options_are_refused(published, content, reason):
    published.options.write_bytes(content)
    assert reason in refusal(published, ConfigError)
    published.options.unlink()
    assert "does not exist" in refusal(published, ConfigError)
