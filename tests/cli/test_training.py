"""`vocabulary`, `train` and `evaluate`: from text to perplexities and scores."""

import json
import random

import matplotlib.font_manager  # noqa: F401  its list of fonts is made once per machine
import numpy as np
import pytest

from elmo_export.checkpoint import Checkpoint
from random_models import tiny_config

WORDS = ("the", "cat", "sat", "on", "mats", "while", "dogs", "bark", "café", "été")


@pytest.fixture
def text(tmp_path):
    """Eighty sentences."""
    generator = random.Random(0)
    lines = (" ".join(generator.choices(WORDS, k=generator.randint(3, 9))) for _ in range(80))
    path = tmp_path / "text.txt"
    path.write_text("".join(f"{line}\n" for line in lines), "utf-8")
    return path


@pytest.fixture
def options(tmp_path):
    """Ten steps of the tiny model."""
    recipe = {
        "batch_size": 4,
        "unroll_steps": 5,
        "n_train_tokens": 200,
        "n_epochs": 1,
        "n_negative_samples_batch": 5,
    }
    path = tmp_path / "options.json"
    path.write_text(json.dumps({**tiny_config().to_options(), **recipe}))
    return path


@pytest.fixture
def vocab(run, text, tmp_path):
    """The vocabulary of the text."""
    answer = run("vocabulary", text, "-o", tmp_path / "vocab.txt")
    assert answer.code == 0 and "13 lines" in answer.stdout
    return tmp_path / "vocab.txt"


def start(run, text, vocab, options, folder, *more):
    words = ("--text", text, "--vocab", vocab, "--options", options, "-o", folder)
    return run("train", *words, "--device", "cpu", *more)


def test_text_becomes_a_model_that_is_evaluated_exported_and_embeds(
    run, text, vocab, options, tmp_path
):
    answer = start(run, text, vocab, options, tmp_path / "run", "--log-every", "5")
    assert answer.code == 0, answer.stderr
    assert "trained:" in answer.stdout and "step 10 of 10  loss" in answer.stderr
    checkpoint = tmp_path / "run" / "checkpoint"
    answer = run("evaluate", checkpoint, "--text", text, "--batch-size", "4", "--json")
    figures = json.loads(answer.stdout)
    assert 1 < figures["perplexity"] < 14
    mean = np.sqrt(figures["forward_perplexity"] * figures["backward_perplexity"])
    assert figures["perplexity"] == pytest.approx(mean)
    table = run("evaluate", checkpoint, "--text", text, "--batch-size", "4")
    assert f"{figures['perplexity']:.2f}" in table.stdout
    assert run("export", checkpoint, "-o", tmp_path / "bundle").code == 0
    assert run("verify", tmp_path / "bundle", "--checkpoint", checkpoint).code == 0


def test_every_sentence_gets_its_score(run, text, vocab, options, tmp_path):
    start(run, text, vocab, options, tmp_path / "run")
    words = ("evaluate", tmp_path / "run" / "checkpoint", "--text", text, "--score")
    lines = [line.split("\t") for line in run(*words).stdout.splitlines()]
    assert [int(line[0]) for line in lines] == [
        len(line.split()) for line in text.read_text("utf-8").splitlines()
    ]
    as_json = [json.loads(line) for line in run(*words, "--json").stdout.splitlines()]
    assert [f"{s['forward']:.4f}" for s in as_json] == [line[1] for line in lines]
    assert all(s["backward"] < 0 for s in as_json)


def test_a_run_is_continued_by_the_same_command_with_resume(run, text, vocab, options, tmp_path):
    folder = tmp_path / "run"
    assert start(run, text, vocab, options, folder).code == 0
    again = start(run, text, vocab, options, folder)
    assert again.code == 2 and "continue its run with --resume" in again.stderr
    longer = start(run, text, vocab, options, folder, "--resume", "--epochs", "2", "--json")
    assert json.loads(longer.stdout)["step"] == 20


def test_fine_tuning_needs_only_a_checkpoint_and_text(run, text, vocab, options, tmp_path):
    start(run, text, vocab, options, tmp_path / "first")
    checkpoint = tmp_path / "first" / "checkpoint"
    overrides = ("--batch-size", "4", "--epochs", "1", "--learning-rate", "1e-9")
    answer = run(
        *("train", "--text", text, "--from", checkpoint, "-o", tmp_path / "tuned"),
        *(*overrides, "--options", tmp_path / "first" / "options.json", "--device", "cpu"),
    )
    assert answer.code == 0, answer.stderr
    before, after = (
        Checkpoint.read(folder / "checkpoint").tensors
        for folder in (tmp_path / "first", tmp_path / "tuned")
    )
    assert all(np.allclose(before[name], after[name], atol=1e-6) for name in before)


def test_a_missing_option_is_a_usage_error(run, text, tmp_path, vocab):
    answer = run("train", "--text", text, "--vocab", vocab, "-o", tmp_path / "run")
    assert answer.code == 2 and "neither --options nor --from is given" in answer.stderr
    answer = run("train", "--text", tmp_path / "none*", "-o", tmp_path / "run")
    assert answer.code == 2
    answer = run("train", "--help")
    assert "torchrun" in answer.stdout


def test_a_text_that_is_not_utf8_is_named_with_file_and_line(run, text, vocab, options, tmp_path):
    corrupt = tmp_path / "corrupt.txt"
    corrupt.write_bytes(text.read_bytes() + b"caf\xe9\n")
    answer = start(run, corrupt, vocab, options, tmp_path / "run")
    assert answer.code == 5
    assert "corrupt.txt:81: not UTF-8" in answer.stderr and "hint:" in answer.stderr


def test_a_model_without_a_softmax_is_not_evaluated(run, model, text):
    answer = run("evaluate", model, "--text", text)
    assert answer.code == 5 and "has no softmax" in answer.stderr


def test_tokens_get_scores_and_substitutes(run, text, vocab, options, tmp_path):
    start(run, text, vocab, options, tmp_path / "run")
    few = tmp_path / "few.txt"
    few.write_text("the cat\n\ndogs bark\n", "utf-8")
    words = ("evaluate", tmp_path / "run" / "checkpoint", "--text", few)
    lines = [line.split("\t") for line in run(*words, "--score", "--per-token").stdout.splitlines()]
    assert [line[:2] for line in lines] == [
        ["1", "<S>"], ["1", "the"], ["1", "cat"], ["1", "</S>"],
        ["2", "<S>"], ["2", "</S>"],
        ["3", "<S>"], ["3", "dogs"], ["3", "bark"], ["3", "</S>"],
    ]  # fmt: skip
    totals = [line.split("\t") for line in run(*words, "--score").stdout.splitlines()]
    forward = sum(float(line[2]) for line in lines[:4] if line[2] != "-")
    assert forward == pytest.approx(float(totals[0][1]), abs=1e-3)
    shown = [line.split("\t") for line in run(*words, "--substitutes", "2").stdout.splitlines()]
    assert [line[:2] for line in shown] == [
        ["1", "the"],
        ["1", "cat"],
        ["3", "dogs"],
        ["3", "bark"],
    ]
    answers = run(*words, "--substitutes", "2", "--json").stdout.splitlines()
    both = [token["both"] for line in answers for token in json.loads(line)["tokens"]]
    assert [f"{p['word']} {p['probability']:.4f}" for p in both[0]] == shown[0][2:]
    assert run(*words, "--per-token").code == 2
    assert run(*words, "--score", "--substitutes", "2").code == 2


def test_heldout_text_is_measured_and_the_best_checkpoint_named(
    run, text, vocab, options, tmp_path
):
    more = ("--heldout", text, "--save-every", "5", "--json")
    answer = json.loads(start(run, text, vocab, options, tmp_path / "run", *more).stdout)
    assert answer["heldout"]["step"] == 10 and answer["heldout"]["zero_state_perplexity"] > 1
    assert Checkpoint.read(tmp_path / "run" / "best").vocabulary is not None
    assert answer["best"] == str(tmp_path / "run" / "best")


def test_the_number_of_negatives_is_an_option(run, text, vocab, options, tmp_path):
    """Fine-tuning with a small vocabulary required 8192 negatives, and no option changed that."""
    answer = start(run, text, vocab, options, tmp_path / "run", "--negatives", "13")
    assert answer.code == 5 and "draw fewer than 13 with --negatives N" in answer.stderr
    assert start(run, text, vocab, options, tmp_path / "run", "--negatives", "0").code == 0
    written = json.loads((tmp_path / "run" / "options.json").read_text())
    assert written["sample_softmax"] is False


def test_evaluate_prints_the_share_of_unknown_words(run, text, vocab, options, tmp_path):
    start(run, text, vocab, options, tmp_path / "run")
    upper = tmp_path / "upper.txt"
    upper.write_text(text.read_text("utf-8").upper(), "utf-8")
    words = ("evaluate", tmp_path / "run" / "checkpoint", "--batch-size", "4", "--text")
    assert "unknown words" in run(*words, text).stdout and "0.0%" in run(*words, text).stdout
    assert json.loads(run(*words, upper, "--json").stdout)["unknown_share"] == 1.0
