"""A write replaces what elmo-deploy wrote, and takes away nothing else."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from elmo_export import Checkpoint
from elmo_export.own_files import BUNDLE_FORMAT, CHECKPOINT_FORMAT
from elmo_runtime.errors import ArtifactError, InputError
from elmo_runtime.files import replacing
from elmo_runtime.files.atomic import atomic_directory, atomic_file, check_directory
from elmo_runtime.files.replacing import Format
from random_models import random_checkpoint, tiny_config


def content(folder: Path) -> dict[str, bytes]:
    """Every file below, hidden ones too."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


@pytest.fixture
def other() -> Checkpoint:
    """Another checkpoint of the same shape, without a vocabulary."""
    return random_checkpoint(tiny_config(), seed=1)


@pytest.fixture
def hub_folder(tmp_path) -> Path:
    """A model of another library, as `git clone` brings it."""
    folder = tmp_path / "their-model"
    (folder / ".git").mkdir(parents=True)
    (folder / ".git" / "config").write_text("[remote]")
    (folder / "config.json").write_text('{"model_type": "bert"}')
    (folder / "tokenizer.json").write_text("{}")
    save_file({"weight": np.ones((2, 2), np.float32)}, folder / "model.safetensors")
    return folder


def test_a_model_of_another_library_is_refused_by_the_names_of_its_files(hub_folder, other):
    """`import -o DIR` removed any folder with a model.safetensors, its .git too, with exit 0."""
    before = content(hub_folder)
    with pytest.raises(InputError, match=r"holds config\.json, model\.safetensors, tokenizer\.js"):
        other.write(hub_folder)
    assert content(hub_folder) == before


def test_a_checkpoint_with_files_of_other_programs_is_refused(tmp_path, other):
    """A vocabulary that was edited after the write went with the old checkpoint."""
    folder = tmp_path / "model"
    dataclasses.replace(other, vocabulary=("<S>", "</S>", "<UNK>")).write(folder)
    (folder / "vocab.txt").write_text("mine\n")
    before = content(folder)
    with pytest.raises(InputError, match=r"it holds vocab\.txt"):
        other.write(folder)
    assert content(folder) == before


def test_a_checkpoint_of_an_earlier_version_is_replaced(tmp_path, tiny_checkpoint, other):
    """Earlier versions left no mark in the weights: names and shapes prove whose they are."""
    folder = tmp_path / "model"
    tiny_checkpoint.write(folder)
    save_file(load_file(folder / "model.safetensors"), folder / "model.safetensors")
    other.write(folder)
    read = Checkpoint.read(folder).tensors
    assert all((read[name] == tensor).all() for name, tensor in other.tensors.items())


def test_notes_and_git_stay_where_a_checkpoint_is_replaced(tmp_path, tiny_checkpoint, other):
    """The directory was exchanged, and every other file in it was removed."""
    folder = tmp_path / "model"
    dataclasses.replace(tiny_checkpoint, vocabulary=("a",)).write(folder)
    (folder / ".git").mkdir()
    (folder / ".git" / "HEAD").write_text("ref")
    (folder / "notes.txt").write_text("mine")
    other.write(folder)
    assert set(content(folder)) == {
        ".git/HEAD", "notes.txt", "config.json", "model.safetensors"
    }  # fmt: skip
    assert (folder / "notes.txt").read_text() == "mine"
    assert Checkpoint.read(folder).vocabulary is None


def a_format(*names: str, **more) -> Format:
    return Format(name="thing", owned=lambda folder: names, reserved=names, **more)


def write(target: Path, kind: Format, **files: str) -> None:
    with atomic_directory(target, kind=kind) as folder:
        for name, text in files.items():
            (folder / name).write_text(text)


def test_a_file_that_appears_during_the_work_is_kept(tmp_path):
    """What a user put into the folder while a new version was made went with the old one."""
    kind = a_format("a")
    write(tmp_path / "x", kind, a="old")
    with atomic_directory(tmp_path / "x", kind=kind) as folder:
        (folder / "a").write_text("new")
        (tmp_path / "x" / "notes").write_text("mine")
    assert content(tmp_path) == {"x/a": b"new", "x/notes": b"mine"}


def test_a_new_file_never_replaces_a_foreign_one(tmp_path):
    kind = a_format("a")
    write(tmp_path / "x", kind, a="old")
    (tmp_path / "x" / "b").write_text("mine")
    with pytest.raises(InputError, match="it holds b, not written"):
        write(tmp_path / "x", kind, a="new", b="new")
    assert content(tmp_path) == {"x/a": b"old", "x/b": b"mine"}


@pytest.mark.parametrize("failing", range(4))
def test_a_fill_that_fails_in_the_middle_is_undone(tmp_path, monkeypatch, failing):
    """An error between two renames must leave the old version, not a mixture."""
    kind = a_format("a", "gone", "last", last=("last",))
    write(tmp_path / "x", kind, a="old", gone="old", last="old")
    (tmp_path / "x" / "notes").write_text("mine")
    before, moves, move = content(tmp_path), [], replacing._move

    def failing_move(source: Path, target: Path) -> None:
        moves.append(target)
        if len(moves) == failing + 1:
            raise OSError(1, "Operation not permitted", str(target))
        move(source, target)

    monkeypatch.setattr(replacing, "_move", failing_move)
    with pytest.raises(ArtifactError, match="Operation not permitted"):
        write(tmp_path / "x", kind, a="new", b="new", last="new")
    assert content(tmp_path) == before


@pytest.mark.parametrize("killed_at", range(6))
def test_a_fill_that_was_killed_is_undone_by_the_next_run(tmp_path, killed_at):
    """A killed run left a mixture that the next one refused as files of another program."""
    kind = Format(
        name="thing",
        owned=lambda folder: ("a", "gone", "last") if (folder / "last").exists() else (),
        reserved=("a", "b", "gone", "last"),
        last=("last",),
    )
    write(tmp_path / "x", kind, a="old", gone="old", last="old")
    (tmp_path / "x" / "notes").write_text("mine")
    if not (child := os.fork()):
        kill_in_fill(tmp_path / "x", kind, killed_at)
    os.waitpid(child, 0)
    assert (tmp_path / "x" / ".elmo-partial").exists()
    check_directory(tmp_path / "x", kind=kind)
    assert content(tmp_path) == {
        "x/a": b"old", "x/gone": b"old", "x/last": b"old", "x/notes": b"mine"
    }  # fmt: skip
    write(tmp_path / "x", kind, b="new", last="new")
    assert content(tmp_path) == {"x/b": b"new", "x/last": b"new", "x/notes": b"mine"}


def kill_in_fill(target: Path, kind: Format, killed_at: int) -> None:
    """In a forked child: end without any cleanup right before the n-th move."""
    move, count = replacing._move, iter(range(100))

    def deadly_move(source: Path, target: Path) -> None:
        if next(count) == killed_at:
            os._exit(0)
        move(source, target)

    replacing._move = deadly_move
    try:
        write(target, kind, a="new", b="new", last="new")
    finally:
        os._exit(1)


def test_an_existing_empty_folder_is_filled_from_within(tmp_path, other):
    """A mount point failed with EBUSY after the work, and left a hidden directory next to it."""
    target = tmp_path / "model"
    target.mkdir()
    inode = target.stat().st_ino
    other.write(target)
    assert target.stat().st_ino == inode
    assert [path.name for path in tmp_path.iterdir()] == ["model"]
    assert Checkpoint.read(target).config == other.config


@pytest.mark.parametrize("aside", [".git/HEAD", ".DS_Store", "lost+found/x"])
def test_what_every_folder_may_hold_is_no_content(tmp_path, other, aside):
    """The root of an ext4 volume holds lost+found, so that a new volume could not be filled."""
    path = tmp_path / "model" / aside
    path.parent.mkdir(parents=True)
    path.touch()
    other.write(tmp_path / "model")
    assert path.exists() and Checkpoint.read(tmp_path / "model").config == other.config


def test_a_link_to_the_big_disk_is_followed(tmp_path, tiny_checkpoint, other):
    """The link itself was replaced by a directory, and the big disk stayed empty."""
    disk, link = tmp_path / "disk" / "model", tmp_path / "link"
    link.symlink_to(disk)
    for checkpoint in (tiny_checkpoint, other):
        checkpoint.write(link)
        assert link.is_symlink() and Checkpoint.read(disk).config == checkpoint.config
    (tmp_path / "file-link").symlink_to(tmp_path / "disk" / "file")
    with atomic_file(tmp_path / "file-link") as scratch:
        scratch.write_text("text")
    assert (tmp_path / "file-link").is_symlink()
    assert (tmp_path / "disk" / "file").read_text() == "text"


def test_a_listed_file_behind_a_linked_directory_belongs_to_others(tmp_path, tiny_bundle):
    """The manifest lists graphs/x.onnx; where graphs is a link, that file is someone else's."""
    bundle = Path(shutil.copytree(tiny_bundle, tmp_path / "bundle"))
    (bundle / "graphs").rename(tmp_path / "elsewhere")
    (bundle / "graphs").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(InputError, match="it holds graphs, not written"):
        check_directory(bundle, kind=BUNDLE_FORMAT)


def test_another_program_s_manifest_makes_no_bundle(tmp_path):
    (tmp_path / "manifest.json").write_text(json.dumps({"name": "app", "files": {"a": 1}}))
    with pytest.raises(InputError, match=r"no bundle of elmo-deploy and holds manifest\.json"):
        check_directory(tmp_path, kind=BUNDLE_FORMAT)


def test_a_model_card_that_was_edited_is_not_lost(tmp_path, tiny_bundle):
    bundle = Path(shutil.copytree(tiny_bundle, tmp_path / "bundle"))
    check_directory(bundle, kind=BUNDLE_FORMAT)
    (bundle / "README.md").write_text("my notes")
    with pytest.raises(InputError, match=r"it holds README\.md"):
        check_directory(bundle, kind=BUNDLE_FORMAT)


def test_a_check_leaves_nothing_behind(tmp_path):
    check_directory(tmp_path / "a" / "b", kind=CHECKPOINT_FORMAT)
    assert not list(tmp_path.iterdir())


def test_a_special_file_is_never_replaced(tmp_path):
    """`vocabulary -o /dev/null`, run by root, put a regular file where the device was."""
    os.mkfifo(tmp_path / "pipe")
    with (
        pytest.raises(InputError, match="is not a regular file"),
        atomic_file(tmp_path / "pipe") as scratch,
    ):
        scratch.write_text("text")
    assert (tmp_path / "pipe").is_fifo()
