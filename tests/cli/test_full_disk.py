"""A disk that becomes full during a command: exit code 5, one line, a hint, and no remains.

Each command runs in a process of its own, because the worst faults came after its last line: HDF5
crashed while the interpreter ended.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from elmo_deploy.importers.bilm_hdf5 import export_hdf5
from elmo_export import Checkpoint

CLI = [sys.executable, "-W", "ignore", "-c", "from elmo_deploy.cli import main; main()"]
KEPT_FOR_RESUME = {"_job.json"}  # of a Parquet folder

Disk = Callable[[int], Path]


@pytest.fixture
def disk(tmp_path) -> Iterator[Disk]:
    """A function that mounts a disk of the given size in KiB."""
    place = tmp_path / "disk"
    place.mkdir()

    def mount(size: int) -> Path:
        command = ["mount", "-t", "tmpfs", "-o", f"size={size}k", "tmpfs", str(place)]
        if os.geteuid() or subprocess.run(command, check=False, capture_output=True).returncode:
            pytest.skip("mounting a small disk is not permitted here")
        return place

    yield mount
    if os.path.ismount(place):
        subprocess.run(["umount", str(place)], check=True)


def run(*words: object, limit: int | None = None) -> subprocess.CompletedProcess[str]:
    """Run a command. `limit` is the largest file in KiB, as in `ulimit -f`."""
    shell = [] if limit is None else ["bash", "-c", f'ulimit -f {limit}; exec "$@"', "-"]
    command = [*shell, *CLI, *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=900)


def refuses(done: subprocess.CompletedProcess[str], reason: str) -> bool:
    """Check how a command ended: one line, a hint, no traceback, no crash."""
    lines = [line for line in done.stderr.splitlines() if not line.startswith("warning: ")]
    assert done.returncode == 5, done.stderr
    assert [line.partition(":")[0] for line in lines] == ["error", "hint"], done.stderr
    return "cannot be written" in lines[0] and reason in lines[0]


def left_in(folder: Path) -> set[str]:
    """Names of all files in a directory, including hidden ones."""
    return {path.name for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def text(tmp_path_factory) -> Path:
    """Sentences whose vectors do not fit on the small disks."""
    path = tmp_path_factory.mktemp("text") / "text.txt"
    path.write_text("the cat sat on the mat while dogs bark\n" * 1500)
    return path


@pytest.fixture(scope="module")
def hdf5(model, tmp_path_factory) -> tuple[Path, Path]:
    """options.json and weights.hdf5 of the model."""
    folder = tmp_path_factory.mktemp("hdf5")
    pair = folder / "options.json", folder / "weights.hdf5"
    export_hdf5(Checkpoint.read(model), *pair)
    return pair


@pytest.mark.parametrize("name", ["out.hdf5", "out.npz", "out.safetensors", "folder"])
@pytest.mark.parametrize("limited", [False, True])
def test_embed_on_a_full_disk(bundle, text, disk, tmp_path, name, limited):
    """.hdf5 crashed at exit, .npz and .safetensors were "unexpected" errors with exit code 1."""
    if limited:
        place, reason = tmp_path / "limited", "file size limit"
        place.mkdir()
        done = run("embed", bundle, text, "-o", place / name, limit=100)
    else:
        place, reason = disk(128), "no space"
        done = run("embed", bundle, text, "-o", place / name)
    assert refuses(done, reason) and str(place / name) in done.stderr
    assert left_in(place) <= KEPT_FOR_RESUME


def test_import_on_a_full_disk(hdf5, disk):
    place = disk(40)
    options, weights = hdf5
    done = run("import", "--options", options, "--weights", weights, "-o", place / "model")
    assert refuses(done, "no space") and not left_in(place)


def test_import_to_hdf5_on_a_full_disk(model, disk):
    place = disk(40)
    assert refuses(run("import", "--to-hdf5", model, "-o", place / "hdf5"), "no space")
    assert not left_in(place)


def test_export_on_a_full_disk(model, disk):
    place = disk(100)
    assert refuses(run("export", model, "-o", place / "bundle"), "no space")
    assert not left_in(place)


def test_vocabulary_on_a_full_disk(tmp_path, disk):
    words = tmp_path / "words.txt"
    words.write_text("\n".join(f"word{number}" for number in range(9000)))
    place = disk(40)
    assert refuses(run("vocabulary", words, "-o", place / "vocab.txt"), "no space")
    assert not left_in(place)


@pytest.fixture(scope="module")
def training(text, tmp_path_factory) -> list[object]:
    """The words of a training run of 150 steps, recorded at each."""
    folder = tmp_path_factory.mktemp("training")
    options = {
        "char_cnn": {
            "activation": "relu", "embedding": {"dim": 4}, "filters": [[1, 4], [2, 8]],
            "max_characters_per_token": 50, "n_characters": 261, "n_highway": 1,
        },
        "lstm": {
            "cell_clip": 3, "dim": 16, "n_layers": 2, "proj_clip": 3, "projection_dim": 8,
            "use_skip_connections": True,
        },
        "dropout": 0.1, "n_epochs": 1, "batch_size": 4, "unroll_steps": 20,
        "n_negative_samples_batch": 5, "all_clip_norm_val": 10.0, "learning_rate": 0.2,
    }  # fmt: skip
    (folder / "options.json").write_text(json.dumps(options))
    words = ["the", "cat", "sat", "on", "mat", "while", "dogs", "bark"]
    (folder / "vocab.txt").write_text("\n".join(["<S>", "</S>", "<UNK>", *words]) + "\n")
    return [
        "train", "--options", folder / "options.json", "--vocab", folder / "vocab.txt",
        "--text", text, "--log-every", 1, "--save-every", 40, "-o",
    ]  # fmt: skip


def test_training_on_a_full_disk(training, disk):
    """The previous save remains and can be resumed; no partial file remains."""
    place = disk(170)
    done = run(*training, place / "run", "--json")
    assert refuses(done, "no space")
    assert not [path for path in place.rglob(".*") if not path.is_dir()]
    assert (place / "run" / "resume" / "step-00000040").is_dir()


@pytest.mark.parametrize("limit", [4, 40])
def test_training_with_a_limited_file_size(training, tmp_path, limit):
    """4 KiB end in the records, where a thread of TensorBoard printed its traceback."""
    assert refuses(run(*training, tmp_path / "run", "--json", limit=limit), "file size limit")
    assert not list(tmp_path.rglob("*.elmo-partial"))


def test_build_engine_on_a_full_disk(disk, tmp_path):
    pytest.importorskip("tensorrt_rtx", reason="tensorrt_rtx is not installed: no real engines")
    from engine_bundles import write_graphs
    from random_models import random_checkpoint, tiny_config

    bundle = write_graphs(random_checkpoint(tiny_config()), tmp_path / "bundle", precision="fp16")
    place = disk(1024)
    shutil.copytree(bundle, place / "bundle")
    before = left_in(place)
    words = ("--length", "16:16:16", "--compute-capability", "8.6")
    assert refuses(run("build-engine", place / "bundle", *words), "no space")
    assert left_in(place) == before


def test_standard_output_on_a_full_disk():
    """`--json > file` on a full disk ended in a traceback."""
    with open("/dev/full", "w") as full:
        command = [*CLI, "doctor", "--json"]
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert refuses(done, "no space")
