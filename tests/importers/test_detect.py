"""A source of any format is recognized by its files."""

from __future__ import annotations

import shutil
import stat
import zipfile

import pytest

from elmo_deploy.importers.detect import Companions, import_path
from elmo_runtime.errors import ConfigError, InputError, WeightsError

HDF5 = "HDF5 weights of bilm-tf or AllenNLP"


def zipped(path, files):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


def refusal(source, error=WeightsError):
    with pytest.raises(error) as caught:
        import_path(source)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.fixture
def files(published):
    """The files of a model as the NLPL repository zips them."""
    return {
        "model.hdf5": published.weights.read_bytes(),
        "options.json": published.options.read_bytes(),
        "meta.json": b"{}",
        "vocab.txt": b"a\nb\n",
    }


@pytest.mark.parametrize("inner", ["", "./", "213/", "seqvec/uniref50_v2/"])
def test_a_zip_of_nlpl_is_imported(files, inner, tiny_checkpoint, tmp_path):
    path = zipped(tmp_path / "213.zip", {inner + name: file for name, file in files.items()})
    found = import_path(path)
    assert (found.format, found.checkpoint.config) == (HDF5, tiny_checkpoint.config)


def test_a_directory_of_nlpl_is_imported(files, tiny_checkpoint, tmp_path):
    folder = tmp_path / "213"
    folder.mkdir()
    for name, content in files.items():
        (folder / name).write_bytes(content)
    assert import_path(folder).checkpoint.config == tiny_checkpoint.config


def test_a_directory_with_more_hdf5_files_has_one_of_weights(shared_data):
    found = import_path(shared_data / "elmo-fixtures" / "bilm-tf" / "model")
    assert found.format == HDF5


@pytest.mark.parametrize(
    ("weights", "options"),
    [
        ("elmo_2x8_weights.hdf5", "elmo_2x8_options.json"),
        ("weights.hdf5", "options.json"),
        ("model.hdf5", "options.json"),
    ],
)
def test_weights_find_their_options(published, tiny_checkpoint, tmp_path, weights, options):
    (tmp_path / "new").mkdir()
    shutil.copy(published.weights, tmp_path / "new" / weights)
    shutil.copy(published.options, tmp_path / "new" / options)
    found = import_path(tmp_path / "new" / weights)
    assert found.checkpoint.config == tiny_checkpoint.config


def test_weights_without_options_are_refused(published, tmp_path):
    (tmp_path / "new").mkdir()
    weights = shutil.copy(published.weights, tmp_path / "new" / "weights.hdf5")
    assert "has no options.json next to it" in refusal(weights)
    import_path(weights, Companions(options=published.options))


def test_a_checkpoint_and_a_bundle_are_not_weights(tiny_checkpoint, tiny_bundle, tmp_path):
    tiny_checkpoint.write(tmp_path / "checkpoint")
    assert "is a checkpoint already" in refusal(tmp_path / "checkpoint", InputError)
    assert "is a bundle, not weights" in refusal(tiny_bundle, InputError)


def test_other_sources_are_refused(tmp_path):
    for name in ("nothing", "checkpoint"):
        assert "does not exist" in refusal(tmp_path / name)
    (tmp_path / "page.html").write_text("<html>")
    assert "page.html has no supported format" in refusal(tmp_path / "page.html")
    assert "contains no model of a supported format; files: page.html" in refusal(tmp_path)


@pytest.mark.parametrize(
    ("change", "error", "reason"),
    [
        ({"model.hdf5": b"not HDF5"}, WeightsError, "model.hdf5 cannot be read as HDF5"),
        ({"options.json": b"{}"}, ConfigError, "options: lstm is None"),
        ({"options.json": b"["}, ConfigError, "options.json is not JSON"),
        ({"other.hdf5": b""}, WeightsError, "contains 2 files of weights"),
    ],
)
def test_a_wrong_member_is_named_with_the_archive(files, tmp_path, change, error, reason):
    path = zipped(tmp_path / "213.zip", files | change)
    message = refusal(path, error)
    assert message.startswith(str(path)) and reason in message


def test_links_and_names_outside_of_a_zip_are_not_followed(files, published, tmp_path):
    del files["options.json"]
    path = zipped(tmp_path / "213.zip", files | {"../options.json": b"{}"})
    with zipfile.ZipFile(path, "a") as archive:
        link = zipfile.ZipInfo("options.json")
        link.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive.writestr(link, str(published.options))
    assert "contains 0 files of options" in refusal(path)
    assert not (tmp_path.parent / "options.json").exists()


@pytest.mark.parametrize("share", [0.1, 0.5, 0.99])
def test_a_truncated_zip_is_refused(files, tmp_path, share):
    path = zipped(tmp_path / "213.zip", files)
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    assert str(path) in refusal(path)


def test_a_corrupt_member_of_a_zip_is_refused(files, tmp_path):
    path = zipped(tmp_path / "213.zip", files)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    assert str(path) in refusal(path)
