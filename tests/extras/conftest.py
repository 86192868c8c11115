"""The wheel, a clean environment per extra, and the files that the pages name."""

from __future__ import annotations

import gzip
import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from pages import EXTRAS, ROOT

from elmo_deploy.importers.bilm_hdf5 import export_hdf5
from elmo_export.checkpoint import Checkpoint

N_WORDS = 9000  # More than the 8192 words that sampled softmax draws by default.
RECIPE = {
    "batch_size": 32,
    "unroll_steps": 10,
    "n_train_tokens": N_WORDS,
    "n_epochs": 1,
    "n_negative_samples_batch": 64,
}
# pip and downloads are not run: the environment is installed and the files exist.
PRELUDE = "set -euo pipefail; pip() { :; }; curl() { :; }; wget() { :; }; unzip() { :; }\n"


@pytest.fixture(scope="session")
def wheel() -> Path:
    """The wheel that `make wheel` built."""
    found = sorted((ROOT / "dist").glob("*.whl"))
    if len(found) != 1:
        pytest.fail(f"dist/ holds {len(found)} wheels; run: make extras")
    return found[0]


class Environment:
    """A virtual environment with the wheel and some extras, without this repository."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def install(self, requirement: str) -> None:
        """Install a requirement with the pinned versions of the repository."""
        if not self.folder.exists():
            subprocess.run([sys.executable, "-m", "venv", self.folder], check=True)
        command = [self.folder / "bin" / "python", "-m", "pip", "install", "--quiet"]
        command += ["--no-compile", "--disable-pip-version-check"]
        subprocess.run([*command, "-c", ROOT / "constraints.txt", requirement], check=True)

    def run(self, words: Sequence[str | Path], cwd: Path) -> subprocess.CompletedProcess[str]:
        """Run a command of the environment in a directory."""
        kept = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("PYTHON", "VIRTUAL_ENV", "ELMO_", "PYTEST"))
        }
        paths = {
            "PATH": f"{self.folder / 'bin'}{os.pathsep}{os.environ['PATH']}",
            "HOME": str(cwd),
            "XDG_STATE_HOME": str(cwd / ".state"),
            "SLURM_ARRAY_TASK_ID": "0",
        }
        return subprocess.run(
            words, cwd=cwd, env=kept | paths, capture_output=True, text=True, check=False
        )

    def shell(self, script: str, cwd: Path) -> subprocess.CompletedProcess[str]:
        """Run a script that stops at the first failing command."""
        return self.run(["bash", "-c", PRELUDE + script], cwd)

    def python(self, program: str, cwd: Path) -> subprocess.CompletedProcess[str]:
        """Run a program with the Python of the environment."""
        return self.run(["python", "-W", "error", "-c", program], cwd)


@pytest.fixture(scope="session")
def environment(wheel, tmp_path_factory) -> Callable[[str], Environment]:
    """Name of an environment -> the environment, which is installed at its first use.

    The training environment extends the export environment, because torch is large.
    """
    folder = tmp_path_factory.mktemp("environments")
    ready: dict[str, Environment] = {}

    def get(name: str) -> Environment:
        if name not in ready:
            base = get("export").folder if name == "train" else folder / name
            ready[name] = Environment(base)
            extras = ",".join(sorted(EXTRAS[name]))
            ready[name].install(f"{wheel}[{extras}]" if extras else str(wheel))
        return ready[name]

    return get


@pytest.fixture(scope="session")
def material(tiny_checkpoint, tiny_bundle, tmp_path_factory) -> Path:
    """A directory with every file that the pages name, from a tiny model."""
    folder = tmp_path_factory.mktemp("material")
    tiny_checkpoint.write(folder / "checkpoint")
    shutil.copytree(tiny_bundle, folder / "bundle")
    shutil.copytree(ROOT / "models", folder / "models")
    _write_published_weights(tiny_checkpoint, folder)
    _write_texts(folder)
    return folder


@pytest.fixture
def workplace(material, tmp_path) -> Path:
    """A copy of the material, to write into."""
    shutil.copytree(material, tmp_path, dirs_exist_ok=True)
    return tmp_path


def _write_published_weights(checkpoint: Checkpoint, folder: Path) -> None:
    """options.json and weights.hdf5, and an AllenNLP archive with both."""
    options, weights = folder / "options.json", folder / "weights.hdf5"
    export_hdf5(checkpoint, options, weights)
    options.write_text(json.dumps(json.loads(options.read_text("utf-8")) | RECIPE))
    place = "model.text_field_embedder.token_embedders.elmo"
    elmo = {"type": "elmo_token_embedder", "options_file": "o", "weight_file": "w"}
    embedder = {"text_field_embedder": {"token_embedders": {"elmo": elmo}}}
    members = {
        "config.json": json.dumps({"model": embedder}).encode(),
        f"fta/{place}.options_file": options.read_bytes(),
        f"fta/{place}.weight_file": weights.read_bytes(),
    }
    with tarfile.open(folder / "model.tar.gz", "w:gz") as archive:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))


def _write_texts(folder: Path) -> None:
    words = [f"w{number}" for number in range(N_WORDS)]
    lines = [" ".join(words[start : start + 20]) for start in range(0, N_WORDS, 20)]
    text = "".join(f"{line}\n" for line in lines)
    for name in ("shards", "domain", "heldout", "corpus"):
        (folder / name).mkdir()
    (folder / "shards" / "a.txt.gz").write_bytes(gzip.compress(text.encode()))
    (folder / "shards" / "a.jsonl").write_text('{"text": "the cat", "id": "1"}\n')
    (folder / "domain" / "a.txt").write_text(text)
    (folder / "heldout" / "a.txt").write_text(text)
    sentences = "the cat is on the mat\ndogs are in the fog\n"
    (folder / "corpus" / "a.txt").write_text(sentences)
    (folder / "sentences.txt").write_text(sentences)
    (folder / "proteins.fasta").write_text(">P1 example\nMKVL-AG*\n")
    (folder / "more.txt.gz").write_bytes(gzip.compress(sentences.encode()))
    (folder / "vocab.txt").write_text("".join(f"{w}\n" for w in ["<S>", "</S>", "<UNK>", *words]))
