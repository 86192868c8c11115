"""torchrun with two processes on the CPU equals one process with the doubled batch."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from elmo_deploy.training import TrainingOptions
from elmo_deploy.training.run.metrics import read_metrics
from elmo_export.checkpoint import Checkpoint
from elmo_runtime.errors import ConfigError

SAME_LOSS = 1e-4  # float32 sums in another order, over 20 steps
PROCESSES = 2


def train_in_two_processes(recipe, folder, text, vocabulary, *arguments, code=0):
    """What the command line under torchrun prints, as users start it."""
    vocabulary.write(folder / "vocab.txt")
    (folder / "options.json").write_text(json.dumps(recipe.to_options()))
    command = [
        *(sys.executable, "-m", "torch.distributed.run", "--standalone"),
        *("--nproc-per-node", str(PROCESSES), "--no-python"),
        *(str(Path(sys.executable).with_name("elmo-deploy")), "train"),
        *("--text", str(text / "*.txt"), "--vocab", str(folder / "vocab.txt")),
        *("--options", str(folder / "options.json"), "--out", str(folder / "run")),
        *("--log-every", "5", "--save-every", "7", "--device", "cpu", *arguments),
    ]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=900)
    assert done.returncode == code, done.stderr
    return done.stderr if code else done.stdout


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("distributed")


@pytest.mark.slow
def test_two_processes_are_one_with_the_doubled_batch(options, run, folder, text, vocabulary):
    recipe = options(dropout=0.0, n_tokens_vocab=13, batch_size=2, zero_state_probability=0.3)
    printed = train_in_two_processes(recipe, folder, text, vocabulary)
    assert printed.count("trained:") == 1
    run(replace(recipe, batch_size=4), folder / "one")
    two, one = (read_metrics(folder / name / "metrics.jsonl") for name in ("run", "one"))
    assert [r.loss for r in two] == pytest.approx([r.loss for r in one], abs=SAME_LOSS)
    assert [r.step for r in two] == [5, 10, 15, 20]
    ends = [Checkpoint.read(folder / name / "checkpoint").tensors for name in ("run", "one")]
    for name in ends[0]:
        assert np.allclose(ends[0][name], ends[1][name], atol=1e-4), name


def test_a_resumed_run_of_two_processes_gives_each_its_own_rows_back(
    options, run, folder, text, vocabulary
):
    recipe = options(dropout=0.0, n_tokens_vocab=13, batch_size=2, zero_state_probability=0.3)
    train_in_two_processes(replace(recipe, n_epochs=2), folder, text, vocabulary, "--resume")
    run(replace(recipe, batch_size=4, n_epochs=2), folder / "longer")
    two, one = (read_metrics(folder / name / "metrics.jsonl") for name in ("run", "longer"))
    assert [r.loss for r in two] == pytest.approx([r.loss for r in one], abs=SAME_LOSS)


def test_one_process_does_not_resume_the_run_of_two(options, run, folder):
    """It continued with half of the rows and twice as many steps per epoch."""
    recipe = TrainingOptions.read(folder / "run" / "options.json")
    before = (folder / "run" / "metrics.jsonl").read_bytes()
    with pytest.raises(
        ConfigError, match=r"by 2 processes, .* but this run has 1 process"
    ) as error:
        run(recipe, folder / "run", resume=True)
    assert "torchrun --nproc-per-node 2 --no-python elmo-deploy train" in error.value.hint
    assert (folder / "run" / "metrics.jsonl").read_bytes() == before


def test_two_processes_do_not_resume_the_run_of_one(options, run, tmp_path, text, vocabulary):
    """The second process had no rows to restore, and the first one waited for it without end."""
    recipe = options(dropout=0.0, n_tokens_vocab=13)
    run(recipe, tmp_path / "run")
    printed = train_in_two_processes(recipe, tmp_path, text, vocabulary, "--resume", code=1)
    assert "was trained by 1 process" in printed
    assert "but this run has 2 processes" in printed
    assert "hint: resume it with elmo-deploy train, without torchrun" in printed
