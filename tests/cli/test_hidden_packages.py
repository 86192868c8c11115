"""Every command runs without the packages that it does not need, and names missing ones."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from elmo_deploy.cli import COMMANDS
from elmo_deploy.importers.bilm_hdf5 import export_hdf5
from elmo_export.checkpoint import Checkpoint

VOCABULARY = ["<S>", "</S>", "<UNK>", "the", "cat", "is", "on", "mat"]
ROOT = Path(__file__).parents[2]
OPTIONAL = {
    "cuda", "h5py", "matplotlib", "onnx", "onnxruntime", "pyarrow", "sklearn", "tensorboard",
    "tensorrt_rtx", "torch",
}  # fmt: skip
BLOCKER = """
import os, sys

class Hide:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in os.environ["HIDDEN"].split():
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Hide())
"""
ENGINE = ("--compiler", "tensorrt-rtx", "--precision", "fp32", "--compute-capability", "8.6",
          "--length", "16", "--batch", "1")  # fmt: skip
RECIPE = {"batch_size": 1, "unroll_steps": 5, "n_train_tokens": 240, "n_epochs": 1,
          "n_negative_samples_batch": 3}  # fmt: skip
QUICK = ("--batch", "1", "--length", "2", "--ragged", "0", "--rounds", "1", "--seconds", "0",
         "--system", "cpu-packed")  # fmt: skip

# A command and its arguments -> the packages that it needs. All others are hidden.
RUNS = [
    ("import --options options.json --weights weights.hdf5 -o imported", {"h5py"}),
    ("import --to-hdf5 checkpoint -o hdf5", {"h5py"}),
    ("vocabulary text.txt -o counted.txt", set()),
    ("inspect bundle", set()),
    ("inspect checkpoint", set()),
    ("doctor", {"onnxruntime"}),
    ("embed bundle text.txt -o vectors.hdf5", {"onnxruntime", "h5py"}),
    ("embed bundle text.txt -o vectors.npz", {"onnxruntime"}),
    ("embed bundle text.txt -o vectors.safetensors", {"onnxruntime"}),
    ("embed bundle text.txt -o vectors", {"onnxruntime", "pyarrow"}),
    (" ".join(("build-engine bundle", *ENGINE)), {"tensorrt_rtx", "cuda"}),
    (" ".join(("benchmark bundle", *QUICK)), {"onnxruntime"}),
    (" ".join(("benchmark bundle -o measured", *QUICK)), {"onnxruntime", "matplotlib"}),
    ("verify bundle", {"torch", "onnx", "onnxruntime"}),
    ("export checkpoint -o exported", {"torch", "onnx", "onnxruntime"}),
    ("evaluate language-model --text text.txt --batch-size 1", {"torch"}),
    (
        "train --text text.txt --vocab vocab.txt --options recipe.json -o run",
        {"torch", "tensorboard", "matplotlib"},
    ),
]
NEEDS = [
    ("verify bundle", "torch", "export"),
    ("export checkpoint -o exported", "torch", "export"),
    ("verify bundle", "onnx", "export"),
    ("evaluate language-model --text text.txt", "torch", "train"),
    ("train --text text.txt --vocab vocab.txt --from checkpoint -o run", "torch", "train"),
    ("import --options options.json --weights weights.hdf5 -o imported", "h5py", "hdf5"),
    ("embed bundle text.txt -o vectors.hdf5", "h5py", "hdf5"),
    ("embed bundle text.txt -o vectors.npz", "onnxruntime", "cpu"),
    (" ".join(("benchmark bundle -o measured", *QUICK)), "matplotlib", "plots"),
]


def with_softmax(checkpoint: Checkpoint) -> Checkpoint:
    """The same biLM as a language model of eight words."""
    width = checkpoint.config.projection_dim
    softmax = {
        "softmax.weight": np.zeros((len(VOCABULARY), width), np.float32),
        "softmax.bias": np.zeros(len(VOCABULARY), np.float32),
    }
    return replace(
        checkpoint, tensors={**checkpoint.tensors, **softmax}, vocabulary=tuple(VOCABULARY)
    )


@pytest.fixture(scope="module")
def material(tmp_path_factory, model, bundle) -> Path:
    """A directory with every input of the commands in this file."""
    folder = tmp_path_factory.mktemp("hidden")
    shutil.copytree(model, folder / "checkpoint")
    shutil.copytree(bundle, folder / "bundle")
    with_softmax(Checkpoint.read(model)).write(folder / "language-model")
    export_hdf5(Checkpoint.read(model), folder / "options.json", folder / "weights.hdf5")
    (folder / "text.txt").write_text("the cat is on the mat\n" * 40)
    (folder / "vocab.txt").write_text("".join(f"{word}\n" for word in VOCABULARY))
    options = json.loads((folder / "options.json").read_text("utf-8"))
    (folder / "recipe.json").write_text(json.dumps(options | RECIPE))
    (folder / "hide").mkdir()
    (folder / "hide" / "sitecustomize.py").write_text(BLOCKER)
    return folder


@pytest.fixture
def run_without(material, tmp_path):
    """Run a command in a process that cannot import these packages, nor can its children."""
    shutil.copytree(material, tmp_path, dirs_exist_ok=True)
    paths = [tmp_path / "hide", ROOT, ROOT / "runtime", ROOT / "export"]

    def run_without(hidden, command: str) -> subprocess.CompletedProcess[str]:
        environment = {
            "HIDDEN": " ".join(hidden),
            "PYTHONPATH": os.pathsep.join(map(str, paths)),
            "XDG_STATE_HOME": str(tmp_path / "state"),
            "HOME": str(tmp_path),
        }
        main = "from elmo_deploy.cli import main; main()"
        return subprocess.run(
            [sys.executable, "-c", main, *command.split()],
            env=os.environ | environment,
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )

    return run_without


@pytest.mark.parametrize(("command", "needed"), RUNS, ids=[command for command, _ in RUNS])
def test_a_command_runs_without_the_packages_that_it_does_not_need(run_without, command, needed):
    """The first lines of the README needed torch, for a class that sets two signal handlers.

    `embed` and `vocabulary` imported the package of the training, `build-engine` needed onnx for
    one constant: exit code 4 in every environment that was installed as the README says.
    """
    answer = run_without(OPTIONAL - needed, command)
    assert answer.returncode == 0, answer.stderr


@pytest.mark.parametrize(("command", "package", "extra"), NEEDS)
def test_a_package_that_a_command_needs_is_named(run_without, command, package, extra):
    """`benchmark -o` found out after the measurement that matplotlib is missing."""
    answer = run_without({package}, command)
    assert answer.returncode == 4, answer.stderr
    assert package in answer.stderr and f"elmo-deploy[{extra}" in answer.stderr
    assert len(answer.stderr.strip().splitlines()) == 2


def test_the_runs_are_of_all_commands():
    assert {command.split()[0] for command, _ in RUNS} == set(COMMANDS)


def test_a_hidden_package_is_missed(run_without):
    """The control: a command that needs a package fails where it is hidden."""
    assert run_without({"h5py"}, "import --to-hdf5 checkpoint -o hdf5").returncode == 4
