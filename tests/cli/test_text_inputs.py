"""Every command reads text by the same rules, from files of any name, and prints to any stream."""

from __future__ import annotations

import gzip
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import h5py  # noqa: F401  its import asks the system for its processor
import matplotlib.font_manager  # noqa: F401  its list of fonts is made once per machine
import numpy as np
import pytest

from elmo_export.checkpoint import Checkpoint
from random_models import random_checkpoint, tiny_config

WORDS = ("<S>", "</S>", "<UNK>", "old", "dogs", "sleep", "cats", "do", "not")
RECIPE = {"batch_size": 1, "unroll_steps": 3, "n_train_tokens": 12, "n_epochs": 1,
          "n_negative_samples_batch": 3}  # fmt: skip
LINES = "old dogs sleep\ncats do not\n"
ODD_NAMES = ["-x [1] y\n*.txt", os.fsdecode("日本".encode() + b"caf\xe9.txt")]


def softmax_of(checkpoint: Checkpoint, words: tuple[str, ...]) -> Checkpoint:
    """The same biLM as a language model of these words."""
    rng = np.random.default_rng(0)
    shape = (len(words), checkpoint.config.projection_dim)
    softmax = {
        "softmax.weight": rng.normal(size=shape).astype(np.float32),
        "softmax.bias": np.zeros(len(words), np.float32),
    }
    return replace(checkpoint, tensors={**checkpoint.tensors, **softmax}, vocabulary=words)


@pytest.fixture(scope="module")
def language_model(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("text") / "checkpoint"
    softmax_of(random_checkpoint(tiny_config()), WORDS).write(folder)
    return folder


@pytest.fixture
def options(tmp_path) -> Path:
    path = tmp_path / "options.json"
    path.write_text(json.dumps({**tiny_config().to_options(), **RECIPE}))
    return path


def train(run, text, vocab, options, out):
    words = ("--text", text, "--vocab", vocab, "--options", options, "-o", out)
    return run("train", *words, "--device", "cpu", "--json")


def scores(run, model, text, **options):
    answer = run("evaluate", model, "--text", text, "--score", "--device", "cpu", **options)
    assert answer.code == 0, answer.stderr
    return [line.split("\t") for line in answer.stdout.splitlines()]


@pytest.mark.parametrize("white", ["\t", "\u00a0", "  ", "\u3000"])
def test_every_command_sees_the_same_tokens(run, bundle, language_model, tmp_path, white):
    """`embed` saw three tokens where the other commands and AllenNLP saw six."""
    path = tmp_path / "spaces.txt"
    path.write_text(f"old{white}dogs sleep\r\n{white}cats\n", "utf-8")
    answer = run("embed", bundle, path, "-o", tmp_path / "out.npz", "--json")
    assert json.loads(answer.stdout)["tokens"] == 4
    assert [int(row[0]) for row in scores(run, language_model, path)] == [3, 1]
    assert run("vocabulary", path, "-o", tmp_path / "vocab.txt").code == 0
    assert (tmp_path / "vocab.txt").read_text().split("\n")[3:] == [
        *("old", "dogs", "sleep", "cats", "")
    ]


def test_scores_line_up_with_the_lines_of_the_input(run, language_model, tmp_path):
    """Blank lines had no row, so row and line numbers differed after the first blank line."""
    text = b"\xef\xbb\xbfold dogs sleep\n\ncats do\r\n \t\nnot"
    (tmp_path / "b.txt").write_bytes(text)
    rows = scores(run, language_model, tmp_path / "b.txt")
    assert [int(row[0]) for row in rows] == [3, 0, 2, 0, 1]
    assert scores(run, language_model, "-", typed=text) == rows
    (tmp_path / "a.txt").write_bytes(b"not\n")
    words = ("--text", tmp_path / "b.txt", "--text", tmp_path / "a.txt", "--score")
    both = run("evaluate", language_model, *words).stdout.splitlines()
    assert [line.split("\t") for line in both] == [*rows, rows[-1]]


def test_perplexity_of_stdin_is_rejected(run, language_model):
    answer = run("evaluate", language_model, "--text", "-", typed=b"old dogs\n")
    assert answer.code == 2 and "can be read only once" in answer.stderr


@pytest.mark.parametrize("suffix", ["txt", "txt.gz"])
def test_a_vocabulary_is_read_under_the_name_of_its_output(run, options, tmp_path, suffix):
    """`vocabulary -o vocab.txt.gz` wrote plain text, which `train` could not unpack."""
    (tmp_path / "text.txt").write_text(LINES)
    vocab = tmp_path / f"vocab.{suffix}"
    assert run("vocabulary", tmp_path / "text.txt", "-o", vocab).code == 0
    answer = train(run, tmp_path / "text.txt", vocab, options, tmp_path / "run")
    assert answer.code == 0, answer.stderr


@pytest.mark.parametrize("form", [" \n", "\r\n", "\t\n"])
def test_a_vocabulary_with_white_space_trains_the_same_words(run, options, tmp_path, form):
    """Every word was unknown, and the perplexity of 1.4 was that of <UNK>."""
    (tmp_path / "text.txt").write_text(LINES)
    (tmp_path / "vocab.txt").write_bytes("".join(word + form for word in WORDS).encode())
    answer = train(run, tmp_path / "text.txt", tmp_path / "vocab.txt", options, tmp_path / "run")
    assert answer.code == 0, answer.stderr
    assert Checkpoint.read(tmp_path / "run" / "checkpoint").vocabulary == WORDS


def with_mark(path: Path) -> None:
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())


def test_every_text_file_may_start_with_a_byte_order_mark(run, model, options, tmp_path):
    """Editors on Windows save it; options.json and config.json were "not JSON" with it."""
    (tmp_path / "text.txt").write_text(LINES)
    (tmp_path / "vocab.txt").write_text("".join(f"{word}\n" for word in WORDS))
    for name in ("text.txt", "vocab.txt", "options.json"):
        with_mark(tmp_path / name)
    folder = tmp_path / "run"
    answer = train(run, tmp_path / "text.txt", tmp_path / "vocab.txt", options, folder)
    assert answer.code == 0, answer.stderr
    for name in ("config.json", "vocab.txt"):
        with_mark(folder / "checkpoint" / name)
    assert Checkpoint.read(folder / "checkpoint").vocabulary == WORDS
    assert [int(row[0]) for row in scores(run, folder / "checkpoint", tmp_path / "text.txt")] == [
        3,
        3,
    ]
    assert run("import", "--to-hdf5", model, "-o", tmp_path / "hdf5").code == 0
    with_mark(tmp_path / "hdf5" / "options.json")
    words = (
        "--options",
        tmp_path / "hdf5/options.json",
        "--weights",
        tmp_path / "hdf5/weights.hdf5",
    )
    assert run("import", *words, "-o", tmp_path / "imported").code == 0


def test_every_command_reads_the_parquet_directories_of_embed(
    run, bundle, language_model, tmp_path
):
    """Commands had no option to name its column of tokens."""
    pytest.importorskip("pyarrow")
    folder = tmp_path / "vectors.parquet"
    assert run("embed", bundle, "-", "-o", folder, typed=LINES.encode()).code == 0
    assert run("vocabulary", folder, "-o", tmp_path / "vocab.txt.gz").code == 0
    words = gzip.decompress((tmp_path / "vocab.txt.gz").read_bytes()).decode().split()
    assert sorted(words) == sorted(WORDS)
    assert [int(row[0]) for row in scores(run, language_model, folder)] == [3, 3]
    answer = run("embed", bundle, folder, "-o", tmp_path / "again.npz", "--json")
    assert json.loads(answer.stdout)["tokens"] == 6


def test_a_table_is_rejected_unless_the_format_is_text(run, language_model, bundle, tmp_path):
    """Its header and its ids were embedded, scored and counted as words."""
    table = tmp_path / "table.csv"
    table.write_text('id,text\n1,"old dogs, sleep"\n')
    commands = {
        "embed": ("embed", bundle, table, "-o", tmp_path / "out.npz"),
        "vocabulary": ("vocabulary", table, "-o", tmp_path / "vocab.txt"),
        "score": ("evaluate", language_model, "--text", table, "--score"),
        "evaluate": ("evaluate", language_model, "--text", table, "--batch-size", 1),
    }
    for command in commands.values():
        answer = run(*command)
        assert answer.code == 2 and "--format text" in answer.stderr, answer
        assert run(*command, "--format", "text").code == 0


@pytest.mark.parametrize("name", ODD_NAMES)
def test_every_command_accepts_unusual_names_of_files_and_directories(
    run, language_model, options, tmp_path, name
):
    """Names that are shell patterns, not UTF-8 or folded in messages broke some commands."""
    text, folder = tmp_path / name, tmp_path / f"{name}.d"
    folder.mkdir()
    text.write_text(LINES)
    run_folder = tmp_path / "run" if "\udce9" in name else folder / "run"
    small = ("--batch", 1, "--length", 2, "--ragged", 0, "--rounds", 1, "--seconds", 0)
    commands = [
        ("vocabulary", text, "-o", folder / "vocab.txt"),
        ("train", "--text", text, "--vocab", folder / "vocab.txt", "--options", options,
         "-o", run_folder, "--device", "cpu"),
        ("evaluate", language_model, "--text", text, "--batch-size", 1),
        ("evaluate", language_model, f"--text={text}", "--score"),
        ("inspect", run_folder / "checkpoint"),
        ("import", "--to-hdf5", run_folder / "checkpoint", "-o", folder / "hdf5"),
        ("import", "--options", folder / "hdf5/options.json", "--weights",
         folder / "hdf5/weights.hdf5", "-o", folder / "checkpoint"),
        ("export", folder / "checkpoint", "-o", folder / "bundle"),
        ("verify", folder / "bundle"),
        ("inspect", folder / "bundle", "--json"),
        ("embed", folder / "bundle", text, "-o", folder / "out.hdf5"),
        ("embed", folder / "bundle", text, "-o", folder / "out.npz", "--json"),
        ("embed", folder / "bundle", text, "-o", folder / "out.safetensors"),
        ("embed", folder / "bundle", text, "-o", folder / "parts"),
        ("benchmark", folder / "bundle", "--text", text, *small, "--system", "cpu-packed",
         "-o", folder / "measured"),
    ]  # fmt: skip
    for command in commands:
        answer = run(*command)
        assert answer.code == 0, (command[0], answer.stderr)


def test_a_run_directory_whose_name_is_not_utf8_is_rejected_before_training(run, options, tmp_path):
    """TensorBoard cannot encode the name: UnicodeEncodeError, exit code 1."""
    (tmp_path / "text.txt").write_text(LINES)
    (tmp_path / "vocab.txt").write_text("".join(f"{word}\n" for word in WORDS))
    out = tmp_path / os.fsdecode(b"caf\xe9")
    answer = train(run, tmp_path / "text.txt", tmp_path / "vocab.txt", options, out)
    assert answer.code == 2 and "caf\\xe9 is not UTF-8" in answer.stderr
    assert not out.exists()


def test_a_file_name_with_a_line_end_does_not_split_the_message(run, tmp_path):
    """The rest of the message was printed after the hint, like a table."""
    answer = run("inspect", tmp_path / "a\nb")
    assert answer.code == 5
    assert "a b does not exist" in answer.stderr.splitlines()[0]


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_streams_that_are_not_utf8_get_escapes(bundle, tmp_path, encoding):
    """With LC_ALL=C or PYTHONIOENCODING=ascii a path or a table raised UnicodeEncodeError."""
    text, out = tmp_path / "日本.txt", tmp_path / os.fsdecode(b"caf\xe9.npz")
    text.write_text(LINES)
    environment = {**os.environ, "PYTHONIOENCODING": encoding}

    def command(*words):
        run = "from elmo_deploy.cli import main; main()"
        return subprocess.run(
            [sys.executable, "-c", run, *map(str, words)], capture_output=True, env=environment
        )

    done = command("embed", bundle, text, "-o", out, "--json")
    assert (done.returncode, json.loads(done.stdout.decode(encoding))["file"]) == (0, str(out))
    done = command("embed", bundle, text, "-o", out)
    assert done.returncode == 0 and b"caf\\udce9.npz" in done.stderr
    done = command("inspect", tmp_path / "日本")
    assert done.returncode == 5 and b"Traceback" not in done.stderr
    done = command("inspect", bundle)
    assert done.returncode == 0 and b"parameters" in done.stdout
