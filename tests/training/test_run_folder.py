"""A run has its directory to itself, and does not touch files of others."""

from __future__ import annotations

import pytest
from safetensors.torch import save_file
from torch import ones

from elmo_deploy.training.run.resume import STATE_FORMAT, saved_folders
from elmo_runtime.errors import ArtifactError, InputError
from elmo_runtime.files.atomic import check_directory
from elmo_runtime.files.scratch import INSIDE, scratch_directory


def test_two_runs_in_one_directory_are_kept_apart(options, run, tmp_path):
    """Both wrote metrics and states, and a resumed run continued from a mixture."""
    (tmp_path / "run").mkdir()
    with (
        scratch_directory(tmp_path / "run" / INSIDE, target=tmp_path / "run"),
        pytest.raises(ArtifactError, match="is being written by process"),
    ):
        run(options(), tmp_path / "run")
    assert not list((tmp_path / "run").iterdir())


def test_resume_in_a_directory_of_someone_else_is_refused(options, run, tmp_path):
    """`--resume` in any directory began a run there and overwrote files of the same names."""
    (tmp_path / "metrics.jsonl").write_text('{"theirs": 1}\n')
    with pytest.raises(InputError, match=r"contains no training run but metrics\.jsonl"):
        run(options(), tmp_path, resume=True)
    assert (tmp_path / "metrics.jsonl").read_text() == '{"theirs": 1}\n'


def test_a_foreign_checkpoint_is_found_before_the_first_step(options, run, tmp_path):
    """The end of a run replaced any model in its directory `checkpoint`."""
    run(options(n_epochs=1), tmp_path)
    theirs = tmp_path / "checkpoint"
    (theirs / "config.json").write_text('{"model_type": "bert"}')
    save_file({"weight": ones(2)}, theirs / "model.safetensors")
    with pytest.raises(InputError, match=r"no checkpoint of elmo-deploy and holds config\.json"):
        run(options(n_epochs=2), tmp_path, resume=True)
    assert (theirs / "config.json").read_text() == '{"model_type": "bert"}'


def test_a_run_may_start_in_a_directory_with_git_or_lost_found(options, run, tmp_path):
    (tmp_path / ".git").mkdir()
    (tmp_path / "lost+found").mkdir()
    assert run(options(n_epochs=1), tmp_path).finished


def test_other_directories_next_to_the_states_stay(options, run, tmp_path):
    """Every `resume/step-*` was sorted and pruned, whether or not it was a state."""
    notes = tmp_path / "resume" / "step-by-step"
    run(options(n_epochs=1), tmp_path)
    notes.mkdir()
    (notes / "notes.txt").touch()
    run(options(n_epochs=2), tmp_path, resume=True)
    assert (notes / "notes.txt").exists() and notes not in saved_folders(tmp_path)
    check_directory(saved_folders(tmp_path)[0], kind=STATE_FORMAT)
