"""The training loop learns, writes its results, stops on a signal and resumes exactly."""

import json
import os
import signal
from dataclasses import replace

import numpy as np
import pytest
import torch

from elmo_deploy.model import Elmo
from elmo_deploy.model.lstm import LstmState
from elmo_deploy.training import TrainingOptions, Vocabulary, evaluate, train
from elmo_deploy.training.distributed import Processes
from elmo_deploy.training.learner import Learner
from elmo_deploy.training.loop import make_model
from elmo_deploy.training.run.folder import RunFolder
from elmo_deploy.training.run.metrics import read_metrics
from elmo_deploy.training.run.reporting import Reporter
from elmo_export.checkpoint import SOFTMAX, Checkpoint
from elmo_runtime.errors import ConfigError, InputError
from random_models import random_checkpoint, tiny_config

TIMES = ("tokens_per_second", "seconds")  # all that may differ between two equal runs


def curve(folder):
    records = (vars(record) for record in read_metrics(folder / "metrics.jsonl"))
    return [{k: v for k, v in record.items() if k not in TIMES} for record in records]


def same_tensors(a, b):
    return a.keys() == b.keys() and all(np.array_equal(a[name], b[name]) for name in a)


def test_the_originals_fixture_falls_below_a_perplexity_of_20(shared_data, tmp_path):
    folder = shared_data / "elmo-fixtures" / "bilm-tf" / "train"
    vocabulary = Vocabulary.read(folder / "vocab.txt")
    recipe = TrainingOptions.from_options(
        {
            "n_negative_samples_batch": 16,
            "n_train_tokens": 134,
            "batch_size": 2,
            "unroll_steps": 10,
            "n_epochs": 50,
            "all_clip_norm_val": 1.0,
            "lstm": {"dim": 16, "projection_dim": 8, "n_layers": 2},
            "char_cnn": {
                "max_characters_per_token": 10,
                "filters": [[1, 8], [2, 8], [3, 16], [4, 32], [5, 64]],
                "activation": "tanh",
                "embedding": {"dim": 4},
                "n_highway": 1,
            },
        }
    )
    shards = [folder / "data.txt"]
    result = train(recipe, shards=shards, vocabulary=vocabulary, run=tmp_path, device="cpu")
    trained = Checkpoint.read(result.checkpoint)
    assert evaluate(trained, shards=shards, batch_size=1, device="cpu").perplexity < 20


def test_a_run_leaves_a_checkpoint_its_options_records_and_a_curve(
    options, run, vocabulary, tmp_path
):
    result = run(options(), tmp_path / "run")
    assert result.finished and result.step == 20
    trained = Checkpoint.read(result.checkpoint)
    assert trained.vocabulary == vocabulary.words
    assert trained.tensors["softmax.weight"].shape == (13, 8)
    written = TrainingOptions.read(tmp_path / "run" / "options.json")
    assert written == replace(options(), n_tokens_vocab=13)
    assert [record["step"] for record in curve(tmp_path / "run")] == [5, 10, 15, 20]
    assert (tmp_path / "run" / "learning-curve.png").read_bytes().startswith(b"\x89PNG")
    assert list((tmp_path / "run" / "tensorboard").glob("events.*"))


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"sample_softmax": False},
        {"optimizer": "adamw", "learning_rate": 0.01, "weight_decay": 0.01},
        {"precision": "bf16"},
        {"precision": "fp16"},
        {"accumulate_windows": 2, "n_train_tokens": 800},
        {"decay": "cosine", "warmup_steps": 5},
    ],
    ids=str,
)
def test_every_recipe_learns(options, run, tmp_path, changes):
    run(options(**{"n_epochs": 3, **changes}), tmp_path / "run")
    losses = [record["loss"] for record in curve(tmp_path / "run")]
    assert losses[-1] < losses[0] - 0.1


def test_the_same_seed_gives_the_same_run_and_another_one_another(options, run, tmp_path):
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        run(options(seed=seed), tmp_path / name)
    assert curve(tmp_path / "a") == curve(tmp_path / "b")
    assert curve(tmp_path / "a") != curve(tmp_path / "c")


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT", "SIGHUP"])
def test_a_signal_ends_the_run_after_its_step_and_the_rest_is_as_if_it_had_not(
    options, run, tmp_path, monkeypatch, name
):
    run(options(), tmp_path / "unbroken")
    advance = Reporter.advance

    def advance_and_signal(reporter, step):
        advance(reporter, step)
        if step == 12:
            os.kill(os.getpid(), getattr(signal, name))

    monkeypatch.setattr(Reporter, "advance", advance_and_signal)
    stopped = run(options(), tmp_path / "stopped")
    assert (stopped.step, stopped.finished) == (12, False)
    assert Checkpoint.read(stopped.checkpoint).vocabulary is not None
    resumed = run(options(), tmp_path / "stopped", resume=True)
    assert resumed.finished
    assert curve(tmp_path / "stopped") == curve(tmp_path / "unbroken")
    ends = [Checkpoint.read(tmp_path / n / "checkpoint").tensors for n in ("unbroken", "stopped")]
    assert same_tensors(*ends)


def test_more_epochs_continue_a_finished_run(options, run, tmp_path):
    run(options(n_epochs=2), tmp_path / "two")
    run(options(n_epochs=1), tmp_path / "one")
    run(options(n_epochs=2), tmp_path / "one", resume=True)
    assert curve(tmp_path / "one") == curve(tmp_path / "two")


def test_a_directory_in_use_is_not_written_to(options, run, tmp_path):
    (tmp_path / "notes").touch()
    with pytest.raises(InputError, match="is not empty; continue its run with --resume"):
        run(options(), tmp_path)


def test_a_run_resumes_only_with_its_own_settings(options, run, tmp_path, shards, vocabulary):
    run(options(), tmp_path / "run")
    with pytest.raises(ConfigError, match=r"other settings: learning_rate \(was None, now 0.1\)"):
        run(options(learning_rate=0.1), tmp_path / "run", resume=True)
    other = {"options": options(), "vocabulary": vocabulary, "shards": shards[:1]}
    with pytest.raises(ConfigError, match="other settings: the shards"):
        RunFolder(tmp_path / "run", **other).enter(resume=True, device=torch.device("cpu"))


def test_a_text_too_short_for_a_step_is_refused(options, run, tmp_path):
    with pytest.raises(ConfigError, match="a step reads 20 tokens, but an epoch has only 19"):
        run(options(n_train_tokens=19), tmp_path / "run")


def test_the_vocabulary_must_have_the_size_in_the_options(options, run, tmp_path):
    with pytest.raises(ConfigError, match="n_tokens_vocab is 14, the vocabulary has 13 lines"):
        run(options(n_tokens_vocab=14), tmp_path / "run")


def test_more_negatives_than_words_are_refused_before_anything_is_written(options, run, tmp_path):
    with pytest.raises(
        ConfigError, match="n_negative_samples_batch is 13, but the vocabulary has only 13"
    ):
        run(options(n_negative_samples_batch=13), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_the_tokens_of_an_epoch_are_counted_when_the_options_do_not_say(
    options, run, shards, tmp_path
):
    counted = sum(len(shard.path.read_text("utf-8").split()) for shard in shards)
    result = run(options(n_train_tokens=None), tmp_path / "run")
    assert result.total_steps == counted // 20


def learner(recipe, shards, vocabulary):
    return Learner(
        recipe,
        model=make_model(recipe, vocabulary, None),
        shards=shards,
        vocabulary=vocabulary,
        processes=Processes(),
    )


def test_a_tenth_of_the_rows_restarts_and_the_others_continue(options, shards, vocabulary):
    rare = learner(options(zero_state_probability=0.1), shards, vocabulary)
    rare._state = LstmState(*(torch.ones_like(part) for part in rare._state))
    starts = [rare._starting_state(counter) for counter in range(500)]
    h, c = (torch.stack(parts).movedim(-2, 1).flatten(2) for parts in zip(*starts, strict=True))
    restarts = (h == 0).all(dim=-1)  # (windows, rows)
    assert restarts.float().mean() == pytest.approx(0.1, abs=0.03)
    assert restarts.any(dim=0).all()
    carried = (~restarts).float().unsqueeze(-1)
    assert (h == carried).all() and (c == carried).all()


def test_without_resets_every_row_continues(options, shards, vocabulary):
    never = learner(options(zero_state_probability=0.0), shards, vocabulary)
    never._state = LstmState(*(torch.ones_like(part) for part in never._state))
    starts = [never._starting_state(counter) for counter in range(500)]
    assert all((part == 1).all() for start in starts for part in start)


def test_accumulated_windows_give_their_mean_gradient(options, shards, vocabulary):
    single = learner(options(dropout=0.0), shards, vocabulary)
    both = learner(options(dropout=0.0, accumulate_windows=2), shards, vocabulary)
    parts = []
    for step in (1, 2):
        single.step = step
        parts.append({n: _dense(g, single.model, n) for n, g in single.gradients().items()})
    both.step = 1
    for name, gradient in both.gradients().items():
        mean = (parts[0][name] + parts[1][name]) / 2
        torch.testing.assert_close(_dense(gradient, both.model, name), mean)


def _dense(gradient, model, name):
    if isinstance(gradient, torch.Tensor):
        return gradient.clone()
    return gradient.dense(model.get_parameter(name))


def test_fine_tuning_starts_from_the_weights_of_a_checkpoint(options, run, tmp_path):
    trained = Checkpoint.read(run(options(n_epochs=4), tmp_path / "first").checkpoint)
    run(options(), tmp_path / "tuned", start=trained)
    assert curve(tmp_path / "tuned")[0]["loss"] < curve(tmp_path / "first")[0]["loss"] - 0.2


def test_a_checkpoint_without_a_softmax_gets_one(options, run, tmp_path, caplog):
    bare = random_checkpoint(tiny_config())
    assert not set(SOFTMAX) & set(bare.tensors)
    result = run(options(learning_rate=1e-9), tmp_path / "run", start=bare)
    assert "the softmax starts from random weights" in caplog.text
    tuned = Checkpoint.read(result.checkpoint)
    assert set(SOFTMAX) < set(tuned.tensors)
    name = "bilm.forward_stack.layers.0.input_weight"
    assert np.allclose(tuned.tensors[name], bare.tensors[name], atol=1e-6)


def test_layer_mixes_that_training_does_not_keep_are_named(options, run, tmp_path, caplog):
    """They were dropped silently, although the language model below them changes."""
    start = Elmo(options().model, mix_names=["ner", "pos"]).to_checkpoint()
    run(options(), tmp_path / "run", start=start)
    assert "layer mixes ner, pos are not kept" in caplog.text


def test_a_checkpoint_of_another_shape_is_refused(options, run, tmp_path):
    other = random_checkpoint(tiny_config(lstm_dim=16))
    with pytest.raises(ConfigError, match=r"lstm_dim=24.*the checkpoint is.*lstm_dim=16"):
        run(options(), tmp_path / "run", start=other)


def test_records_are_json_a_program_can_read(options, run, tmp_path):
    run(options(), tmp_path / "run")
    lines = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    last = json.loads(lines[-1])
    assert last["step"] == 20
    assert last["loss"] == (last["forward_loss"] + last["backward_loss"]) / 2
