"""What an artifact may replace."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from elmo_export import Checkpoint, export_bundle
from elmo_runtime.errors import InputError
from elmo_runtime.files.atomic import atomic_file


def a_file(path: Path) -> None:
    path.write_text("the only copy")


def a_folder_of_files(path: Path) -> None:
    path.mkdir()
    a_file(path / "thesis.txt")


@pytest.mark.parametrize("make", [a_file, a_folder_of_files])
def test_files_of_other_programs_are_never_replaced(make, tiny_checkpoint, tmp_path):
    """`-o` with an existing directory or file removed it with all its content."""
    target = tmp_path / "mine"
    make(target)
    with pytest.raises(InputError, match=r"is not replaced: .*thesis\.txt|is a file"):
        tiny_checkpoint.write(target)
    with pytest.raises(InputError, match=r"is not replaced: .*thesis\.txt|is a file"):
        export_bundle(tiny_checkpoint, target, reference=dict)
    assert [path.read_text() for path in tmp_path.rglob("*") if path.is_file()] == ["the only copy"]


def test_a_bundle_never_replaces_the_checkpoint_that_it_comes_from(tiny_checkpoint, tmp_path):
    tiny_checkpoint.write(tmp_path / "model")
    with pytest.raises(InputError, match="is not replaced"):
        export_bundle(tiny_checkpoint, tmp_path / "model", reference=dict)
    assert Checkpoint.read(tmp_path / "model").config == tiny_checkpoint.config


@pytest.mark.parametrize(("umask", "of_file"), [(0o022, 0o644), (0o077, 0o600), (0o002, 0o664)])
def test_the_umask_says_who_may_read_an_artifact(tiny_checkpoint, tmp_path, umask, of_file):
    """Files were 0644 or, from the safetensors library, 0600, independent of the umask."""
    before = os.umask(umask)
    try:
        tiny_checkpoint.write(tmp_path / "checkpoint")
        with atomic_file(tmp_path / "file") as scratch:
            scratch.write_text("text")
    finally:
        os.umask(before)
    files = [tmp_path / "file", *(tmp_path / "checkpoint").iterdir()]
    assert {path.stat().st_mode & 0o777 for path in files} == {of_file}
    assert (tmp_path / "checkpoint").stat().st_mode & 0o777 == 0o777 & ~umask


def test_the_current_folder_may_be_named_by_a_dot(tiny_checkpoint, tmp_path, monkeypatch):
    """`-o .` made its scratch folder inside the target, and the exchange of the two failed."""
    (tmp_path / "model").mkdir()
    monkeypatch.chdir(tmp_path / "model")
    tiny_checkpoint.write(Path())
    assert Checkpoint.read(tmp_path / "model").config == tiny_checkpoint.config
    assert [path.name for path in tmp_path.iterdir()] == ["model"]
