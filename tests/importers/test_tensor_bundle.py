"""TensorFlow's checkpoint format V2, read by numpy."""

from __future__ import annotations

import random
import sys

import numpy as np
import pytest

from elmo_deploy.importers.tensor_bundle import TensorBundle, crc32c
from elmo_runtime.errors import WeightsError
from tf_bundle import field, write_bundle

VALUES = {"a/b": np.arange(6, dtype="f4").reshape(2, 3), "a/c": np.ones((), "f8")}
SLICE = field(7, b"")


def bundle(prefix):
    name = prefix.name
    return TensorBundle(
        prefix.with_name(f"{name}.index"),
        lambda i, n: prefix.with_name(f"{name}.data-{i:05d}-of-{n:05d}"),
    )


@pytest.fixture
def prefix(tmp_path):
    write_bundle(tmp_path / "model", VALUES)
    return tmp_path / "model"


def refusal(prefix, name="a/b"):
    with pytest.raises(WeightsError) as caught:
        bundle(prefix).read(name)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(("folder", "name"), [("char", "model.ckpt-200"), ("word", "model.ckpt-0")])
def test_every_variable_is_bit_identical_to_tensorflow(folder, name, shared_data):
    folder = shared_data / "migration-golden" / "bilm-tf-checkpoint" / folder
    golden, found = np.load(folder / "tensors_by_tf.npz"), bundle(folder / name)
    assert set(found.variables) == set(golden.files)
    for variable in golden.files:
        value = found.read(variable)
        assert (value.dtype, value.shape) == (golden[variable].dtype, golden[variable].shape)
        assert value.tobytes() == golden[variable].tobytes()


def test_float64_and_float16_are_read(prefix):
    half = {"half": np.array([0.5, -2], "f2")}
    assert bundle(prefix).read("a/c") == 1
    write_bundle(prefix, half)
    assert bundle(prefix).read("half").tolist() == [0.5, -2]


def test_the_crc_is_castagnolis():
    assert crc32c(b"123456789") == 0xE3069283  # the check value of the CRC catalog


def test_corrupt_values_are_found_with_google_crc32c(prefix):
    pytest.importorskip("google_crc32c")
    data = prefix.with_name("model.data-00000-of-00001")
    data.write_bytes(b"\x01" + data.read_bytes()[1:])
    assert "a/b is corrupt: its CRC differs" in refusal(prefix)


def test_without_google_crc32c_values_are_read(prefix, monkeypatch):
    monkeypatch.setitem(sys.modules, "google_crc32c", None)
    assert (bundle(prefix).read("a/b") == VALUES["a/b"]).all()


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"kind": 1}, "compression snappy, as TensorFlow 1.1 and earlier wrote it"),
        ({"kind": 2}, "compression 2"),
        ({"extra": SLICE}, "a/b is stored in slices"),
        ({"header": field(1, 1) + field(2, 1)}, "big-endian"),
        ({"header": field(1, 2)}, "data file 0 of 2 is missing"),
        ({"extra": field(5, 4)}, "a/b has 4 bytes for the shape (2, 3)"),
        ({"extra": field(4, 99)}, "has 32 bytes, a/b ends at 123"),
        ({"extra": field(1, 3)}, "TensorFlow's type 3, must be float"),
        ({"extra": field(2, 3)}, "a number in the place of bytes"),
    ],
)
def test_what_cannot_be_read_is_named(prefix, options, reason):
    write_bundle(prefix, VALUES, **options)
    assert reason in refusal(prefix)


def test_a_missing_data_file_is_named(prefix):
    prefix.with_name("model.data-00000-of-00001").unlink()
    assert "data file 0 of 1 is missing" in refusal(prefix)


@pytest.mark.parametrize("content", [b"", b"x" * 100, None])
def test_a_file_that_is_no_index_is_refused(prefix, content):
    index = prefix.with_name("model.index")
    index.write_bytes(content) if content is not None else index.unlink()
    assert refusal(prefix).startswith(str(index))


def test_a_truncated_index_is_refused(prefix):
    index = prefix.with_name("model.index")
    content = index.read_bytes()
    for size in range(0, len(content), 7):
        index.write_bytes(content[:size])
        refusal(prefix)


def test_mutants_of_the_index_are_refused_or_read(prefix):
    """A flipped bit is found by a CRC or by the footer; nothing but WeightsError is raised."""
    index, generator = prefix.with_name("model.index"), random.Random(0)
    content, refused = index.read_bytes(), 0
    for _ in range(300):
        damaged = bytearray(content)
        damaged[generator.randrange(len(damaged))] ^= 1 << generator.randrange(8)
        index.write_bytes(damaged)
        try:
            bundle(prefix).read("a/b")
        except (WeightsError, KeyError):
            refused += 1
    assert refused > 200
