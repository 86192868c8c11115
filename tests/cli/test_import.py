"""Published files become a checkpoint, and the checkpoint becomes the same files."""

import json
import os
import subprocess
import sys
import tarfile
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest

from elmo_deploy.importers.bilm_hdf5 import export_hdf5
from elmo_deploy.model import Elmo
from elmo_export.checkpoint import Checkpoint
from elmo_runtime.files.atomic import sha256_of
from random_models import tiny_config


@pytest.fixture
def published(tiny_checkpoint, tmp_path):
    """options.json and weights.hdf5 as AllenNLP publishes them."""
    files = tmp_path / "options.json", tmp_path / "weights.hdf5"
    export_hdf5(tiny_checkpoint, *files)
    return files


def test_published_weights_become_a_checkpoint_and_come_back(
    run, published, tiny_checkpoint, tmp_path
):
    options, weights = published
    model, back = tmp_path / "model", tmp_path / "back"
    assert run("import", "--options", options, "--weights", weights, "-o", model).code == 0
    assert run("import", "--to-hdf5", model, "-o", back).code == 0
    assert json.loads((back / "options.json").read_text()) == json.loads(options.read_text())
    again = tmp_path / "again"
    words = ["--options", back / "options.json", "--weights", back / "weights.hdf5"]
    assert run("import", *words, "-o", again).code == 0
    for name, tensor in Checkpoint.read(again).tensors.items():
        np.testing.assert_array_equal(tensor, tiny_checkpoint.tensors[name])


def test_layer_mixes_that_the_format_cannot_hold_are_named(run, tmp_path):
    """They were omitted without a message."""
    Elmo(tiny_config(), mix_names=["ner", "pos"]).to_checkpoint().write(tmp_path / "model")
    answer = run("import", "--to-hdf5", tmp_path / "model", "-o", tmp_path / "files")
    assert (answer.code, "omitted: ner, pos" in answer.stderr) == (0, True)


def test_weights_that_are_not_hdf5_are_named_in_one_line(run, published, tmp_path):
    options, weights = published
    weights.write_bytes(b"not HDF5 at all" * 100)
    answer = run("import", "--options", options, "--weights", weights, "-o", tmp_path / "model")
    assert answer.code == 5 and "weights.hdf5" in answer.stderr.splitlines()[0]
    assert not (tmp_path / "model").exists()


def test_an_archive_of_allennlp_becomes_the_same_checkpoint(
    run, published, tiny_checkpoint, tmp_path
):
    model = tmp_path / "model.tar.gz"
    settings = {"model": {"elmo": {"options_file": "o.json", "weight_file": "w.hdf5"}}}
    (tmp_path / "config.json").write_text(json.dumps(settings))
    with tarfile.open(model, "w:gz") as tar:
        tar.add(tmp_path / "config.json", "config.json")
        for file, key in zip(published, ("options_file", "weight_file"), strict=True):
            tar.add(file, f"fta/model.elmo.{key}")
    answer = run("import", "--archive", model, "-o", tmp_path / "checkpoint")
    assert answer.code == 0
    tensors = Checkpoint.read(tmp_path / "checkpoint").tensors
    for name, tensor in tiny_checkpoint.tensors.items():
        np.testing.assert_array_equal(tensors[name], tensor)


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["--options", "o.json"],
        ["--to-hdf5", "m", "--weights", "w"],
        ["--to-hdf5", "m", "--vocab", "v"],
        ["model.tar.gz", "--archive", "model.tar.gz"],
    ],
)
def test_import_lists_the_valid_combinations_of_options(run, tmp_path, words):
    answer = run("import", *words, "-o", tmp_path / "model")
    assert answer.code == 2 and "hint: one of elmo-deploy import" in answer.stderr


def test_results_are_printed_as_json(run, published, tmp_path):
    """`import` had no `--json`, so scripts had to parse its message."""
    options, weights = published
    words = ["--options", options, "--weights", weights, "-o", tmp_path / "model", "--json"]
    answer = json.loads(run("import", *words).stdout)
    assert answer == {
        "checkpoint": str(tmp_path / "model"),
        "format": "HDF5 weights of bilm-tf or AllenNLP",
        "mixes": [],
        "parameters": 12_208,
    }
    back = run("import", "--to-hdf5", tmp_path / "model", "-o", tmp_path / "back", "--json")
    assert json.loads(back.stdout) == {
        "options": str(tmp_path / "back" / "options.json"),
        "weights": str(tmp_path / "back" / "weights.hdf5"),
    }


def test_import_finds_out_what_it_was_given(run, published, tiny_checkpoint, tmp_path):
    """Only HDF5 pairs and AllenNLP archives could be imported, and the user had to say which."""
    answer = run("import", published[1], "-o", tmp_path / "checkpoint")
    assert answer.code == 0
    assert "found HDF5 weights of bilm-tf or AllenNLP" in answer.stderr
    assert Checkpoint.read(tmp_path / "checkpoint").config == tiny_checkpoint.config


def test_a_training_run_of_bilm_tf_can_be_evaluated(run, shared_data, tmp_path):
    folder = shared_data / "migration-golden" / "bilm-tf-checkpoint" / "char"
    answer = run("import", folder, "-o", tmp_path / "checkpoint")
    assert answer.code == 0
    assert "found a TensorFlow checkpoint of bilm-tf" in answer.stderr
    (tmp_path / "text.txt").write_text("The cat is on the mat .\n" * 20)
    words = ["evaluate", tmp_path / "checkpoint", "--text", tmp_path / "text.txt"]
    answer = run(*words, "--batch-size", 2, "--json")
    assert answer.code == 0 and "perplexity" in answer.stdout


def test_a_softmax_without_its_words_is_named(run, shared_data, tmp_path):
    folder = shared_data / "migration-golden" / "bilm-tf-checkpoint" / "one"
    answer = run("import", folder, "-o", tmp_path / "checkpoint")
    assert "the softmax has no vocabulary; pass it by --vocab" in answer.stderr
    words = ["--vocab", folder.parent / "char" / "vocab.txt"]
    answer = run("import", folder, *words, "-o", tmp_path / "again")
    assert "no vocabulary" not in answer.stderr


def test_the_digest_of_a_file_is_checked(run, published, tmp_path):
    options, weights = published
    words = ["import", "--options", options, "--weights", weights, "-o", tmp_path / "checkpoint"]
    answer = run(*words, "--sha256", "0" * 64)
    assert answer.code == 5 and "weights.hdf5 has the SHA-256" in answer.stderr
    assert run(*words, "--sha256", sha256_of(weights)).code == 0


def test_urls_are_downloaded_to_the_cache(published, tmp_path):
    """Weights had to be downloaded by hand."""
    pytest.importorskip("pooch")
    handler = partial(SimpleHTTPRequestHandler, directory=str(published[0].parent))
    command = [sys.executable, "-m", "elmo_deploy", "import", "-o", tmp_path / "checkpoint"]
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        host = f"http://127.0.0.1:{server.server_port}"
        words = ["--options", f"{host}/options.json", "--weights", f"{host}/weights.hdf5"]
        environment = os.environ | {"XDG_CACHE_HOME": str(tmp_path / "cache")}
        done = subprocess.run(  # a new process, because `run` forbids sockets
            command + words, env=environment, capture_output=True, text=True, check=False
        )
        server.shutdown()
    assert done.returncode == 0, done.stderr
    assert "found HDF5 weights" in done.stderr
    assert len(list((tmp_path / "cache").rglob("*-weights.hdf5"))) == 1
