"""Saved states are restored bit-identically; corrupt ones are logged and skipped."""

import logging

import pytest
import torch

from elmo_deploy.training.run.resume import SavedState, load_latest, save_state, saved_folders
from elmo_runtime.errors import CheckpointError

CPU = torch.device("cpu")


def state(step):
    return SavedState(
        {"a": torch.full((2, 3), step / 3), "b": torch.tensor(step)},
        {"step": step, "third": step / 3, "rows": [["<S>", "été", "東京"], []]},
    )


def same(a, b):
    return a.counters == b.counters and all(torch.equal(a.tensors[n], b.tensors[n]) for n in "ab")


def test_a_saved_state_is_restored_bit_identically(tmp_path):
    save_state(tmp_path, 7, state(7))
    assert same(load_latest(tmp_path, device=CPU), state(7))


def test_a_run_without_saved_states_has_none(tmp_path):
    assert load_latest(tmp_path, device=CPU) is None


def test_the_last_two_are_kept_and_the_newest_is_read(tmp_path):
    for step in (1, 2, 10):
        save_state(tmp_path, step, state(step))
    assert [folder.name for folder in saved_folders(tmp_path)] == ["step-00000002", "step-00000010"]
    assert same(load_latest(tmp_path, device=CPU), state(10))


def test_the_files_of_a_killed_run_are_removed(tmp_path):
    scratch = tmp_path / "resume" / ".step-00000001.elmo-partial"
    scratch.mkdir(parents=True)
    (scratch / "owner").touch()
    save_state(tmp_path, 2, state(2))
    assert [path.name for path in (tmp_path / "resume").iterdir()] == ["step-00000002"]


def test_a_run_whose_states_are_all_corrupt_cannot_continue(tmp_path, caplog):
    for step in (1, 2):
        save_state(tmp_path, step, state(step))
        (tmp_path / "resume" / f"step-0000000{step}" / "state.json").write_text("{}")
    with (
        caplog.at_level(logging.WARNING),
        pytest.raises(CheckpointError, match=r"every state in .*resume is corrupt"),
    ):
        load_latest(tmp_path, device=CPU)
    assert "step-00000001 is corrupt" in caplog.text and "step-00000002 is corrupt" in caplog.text
