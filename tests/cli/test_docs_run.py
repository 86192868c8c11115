"""Every command of every page of the documentation is run in order.

The pages name files that a user has: `workspace` makes small real ones with those names.
"""

from __future__ import annotations

import gzip
import json
import os
import re
import shlex
import shutil
import tarfile
from pathlib import Path

import matplotlib.font_manager  # noqa: F401  its list of fonts is made once per machine
import pytest

from elmo_deploy.importers.bilm_hdf5 import export_hdf5

DOCS = Path(__file__).parents[2] / "docs"
RECIPE = {
    "batch_size": 4,
    "unroll_steps": 5,
    "n_epochs": 1,
    "n_negative_samples_batch": 5,
}
SENTENCES = "".join(f"the cat {verb} the dog\n" for verb in ("sees", "hears", "likes") * 30)
NOT_RUN = {"build-engine": "compiling an engine needs a compiler of NVIDIA"}


def commands(page: Path) -> list[list[str]]:
    """The words of every `elmo-deploy` command in the shell blocks of a page."""
    blocks = re.findall(r"^```sh\n(.*?)^```", page.read_text("utf-8"), re.M | re.S)
    lines = [
        shlex.split(os.path.expandvars(line), comments=True)
        for line in "".join(blocks).splitlines()
    ]
    return [words[1:] for words in lines if words[:1] == ["elmo-deploy"]]


@pytest.fixture
def workspace(tmp_path, tiny_checkpoint, model, bundle, monkeypatch) -> Path:
    """A directory with the files that the pages name."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(model, "checkpoint")
    shutil.copytree(model, "models/english-small")
    shutil.copytree(bundle, "bundle")
    export_hdf5(tiny_checkpoint, Path("options.json"), Path("weights.hdf5"))
    with_recipe = json.loads(Path("options.json").read_text("utf-8")) | RECIPE
    Path("options.json").write_text(json.dumps(with_recipe))
    _write_archive(Path("model.tar.gz"))
    for name in ("sentences.txt", "corpus/a.txt"):
        Path(name).parent.mkdir(exist_ok=True)
        Path(name).write_text(SENTENCES)
    Path("domain").mkdir()
    Path("domain/a.txt").write_text(SENTENCES * 7)  # a step of the paper reads 2,560 tokens
    Path("heldout").mkdir()
    Path("heldout/a.txt").write_text(SENTENCES * 40)  # evaluate reads 256 rows at once
    Path("vocab.txt").write_text("<S>\n</S>\n<UNK>\nthe\ncat\ndog\nsees\nhears\nlikes\n")
    Path("shards").mkdir()
    for name in ("more.txt.gz", "shards/a.txt.gz"):
        Path(name).write_bytes(gzip.compress(SENTENCES.encode()))
    Path("proteins.fasta").write_text(">P1 example\nMKVL-AG*\n")
    Path("shards/a.jsonl").write_text('{"text": "a fox"}\n')
    return tmp_path


def _write_archive(path: Path) -> None:
    """An AllenNLP archive of the two published files in the current directory."""
    embedder = {
        "type": "elmo_token_embedder",
        "options_file": "options.json",
        "weight_file": "weights.hdf5",
    }
    fields = {"elmo": embedder}
    config = {"model": {"text_field_embedder": {"token_embedders": fields}}}
    Path("config.json").write_text(json.dumps(config))
    with tarfile.open(path, "w:gz") as archive:
        archive.add("config.json")
        for key, source in (("options_file", "options.json"), ("weight_file", "weights.hdf5")):
            place = f"fta/model.text_field_embedder.token_embedders.elmo.{key}"
            archive.add(source, place)
    Path("config.json").unlink()


@pytest.mark.slow
@pytest.mark.parametrize(
    "page",
    [page for page in sorted(DOCS.rglob("*.md")) if commands(page)],
    ids=lambda page: page.stem,
)
def test_the_commands_of_a_page_run_in_order(page, run, workspace, monkeypatch):
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "0")
    for words in commands(page):
        if words[0] not in NOT_RUN and not any("://" in word for word in words):
            answer = run(*words)
            assert answer.code == 0, f"elmo-deploy {shlex.join(words)}\n{answer.stderr}"


@pytest.mark.slow
def test_a_page_with_a_wrong_command_fails(run, workspace):
    """Negative control: a command that the product rejects has another exit code than 0."""
    assert run("embed", "bundle", "no-such-file.txt", "-o", "vectors.npz").code != 0
