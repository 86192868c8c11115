"""What an artefact may replace."""

from __future__ import annotations

from pathlib import Path

import pytest

from elmo_export import Checkpoint, export_bundle
from elmo_runtime.errors import InputError
from elmo_runtime.files import refuse_foreign


def a_file(path: Path) -> None:
    path.write_text("the only copy")


def a_folder_of_files(path: Path) -> None:
    path.mkdir()
    a_file(path / "thesis.txt")


@pytest.mark.parametrize("make", [a_file, a_folder_of_files])
def test_what_is_no_artefact_is_never_replaced(make, tiny_checkpoint, tmp_path):
    """`-o` with an existing folder or file removed it and all that was in it."""
    target = tmp_path / "mine"
    make(target)
    with pytest.raises(InputError, match=r"holds no model\.safetensors, so it is not replaced"):
        tiny_checkpoint.write(target)
    with pytest.raises(InputError, match=r"holds no manifest\.sha256, so it is not replaced"):
        export_bundle(tiny_checkpoint, target, reference=dict)
    assert [path.read_text() for path in tmp_path.rglob("*") if path.is_file()] == ["the only copy"]


def test_a_bundle_never_replaces_the_checkpoint_that_it_comes_from(tiny_checkpoint, tmp_path):
    tiny_checkpoint.write(tmp_path / "model")
    with pytest.raises(InputError, match="is not replaced"):
        export_bundle(tiny_checkpoint, tmp_path / "model", reference=dict)
    assert Checkpoint.read(tmp_path / "model").config == tiny_checkpoint.config


def test_an_older_artefact_and_an_empty_folder_may_be_replaced(tiny_checkpoint, tmp_path):
    (tmp_path / "model").mkdir()
    for _ in range(2):
        tiny_checkpoint.write(tmp_path / "model")
    refuse_foreign(tmp_path / "model", marker="model.safetensors")
    refuse_foreign(tmp_path / "absent", marker="model.safetensors")


def test_others_may_read_an_artefact(tiny_checkpoint, tmp_path):
    """The safetensors library writes files that only their owner can read."""
    tiny_checkpoint.write(tmp_path / "checkpoint")
    for path in (tmp_path / "checkpoint").iterdir():
        assert path.stat().st_mode & 0o777 == 0o644
