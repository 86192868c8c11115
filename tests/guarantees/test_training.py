"""C1 and C3: training survives SIGKILL at any time, and a corrupt saved state."""

from __future__ import annotations

import logging
import random
import shutil
import time
from collections.abc import Iterator
from itertools import repeat
from pathlib import Path

import pytest
import torch

from elmo_deploy.training import TrainingOptions, Vocabulary, train
from elmo_deploy.training.run.metrics import read_metrics
from elmo_deploy.training.run.resume import load_latest
from elmo_export.checkpoint import Checkpoint
from guarantee_kit.children import run_child
from random_models import tiny_config

pytestmark = pytest.mark.slow
WORDS = ("the", "cat", "sat", "on", "mats", "while", "dogs", "bark", "café", "été", "東京")
OPTIONS = TrainingOptions(
    model=tiny_config(),
    batch_size=3,
    unroll_steps=5,
    n_epochs=2,
    n_train_tokens=450,
    n_negative_samples_batch=6,
    zero_state_probability=0.1,
)
STEPS = 60


def train_on(corpus: Path, run: Path, fault: str = "") -> int:
    """Start or resume a run and train to the end; return the last step."""
    torch.set_num_threads(1)
    if fault == "forgets its states":
        from elmo_deploy.training.learner import Learner

        restore = Learner.restore

        def forget(learner: Learner, saved: object) -> None:
            restore(learner, saved)  # type: ignore[arg-type]
            learner._state = learner.model.zero_state(OPTIONS.batch_size)

        Learner.restore = forget  # type: ignore[method-assign]
    sentences = (line.split() for line in corpus.read_text("utf-8").splitlines())
    return train(
        OPTIONS,
        shards=[corpus],
        vocabulary=Vocabulary.count(sentences),
        run=run,
        resume=True,
        device="cpu",
        save_every=4,
        log_every=3,
    ).step


def outcome_of(run: Path) -> tuple[list[dict[str, float]], dict[str, bytes]]:
    """The learning curve without times, and the bytes of every weight."""
    curve = [
        {k: v for k, v in vars(m).items() if k not in ("seconds", "tokens_per_second")}
        for m in read_metrics(run / "metrics.jsonl")
    ]
    tensors = Checkpoint.read(run / "checkpoint").tensors
    return curve, {name: tensor.tobytes() for name, tensor in tensors.items()}


@pytest.fixture(scope="module")
def corpus(tmp_path_factory) -> Path:
    """Sixty sentences."""
    generator = random.Random(0)
    path = tmp_path_factory.mktemp("training") / "corpus.txt"
    lines = (" ".join(generator.choices(WORDS, k=generator.randint(2, 12))) for _ in range(60))
    path.write_text("".join(f"{line}\n" for line in lines), "utf-8")
    return path


@pytest.fixture(scope="module")
def uninterrupted(corpus) -> tuple[Path, float]:
    """An undisturbed run, and its duration in seconds."""
    run_child(train_on, corpus, corpus.parent / "warm-up")
    began = time.monotonic()
    outcome = run_child(train_on, corpus, corpus.parent / "uninterrupted")
    assert outcome.answer == STEPS, outcome.error
    return corpus.parent / "uninterrupted", time.monotonic() - began


def moments(generator: random.Random, seconds: float) -> Iterator[dict[str, float]]:
    """When to kill: alternately at a random time and before a random file system change."""
    while True:
        yield {"kill_after": generator.uniform(0.2, 1.0) * seconds}
        yield {"kill_at": generator.randrange(1, 250)}  # a save is about 40 changes


def first_difference(
    corpus: Path,
    folder: Path,
    uninterrupted: Path,
    *,
    kills: int,
    when: Iterator[dict[str, float]],
    fault: str = "",
) -> str:
    """Kill and resume runs until `kills` of them died; return the first difference."""
    expected, died, finished = outcome_of(uninterrupted), 0, 0
    while True:
        run = folder / f"run-{finished}"
        moment = next(when) if died < kills else {}
        outcome = run_child(train_on, corpus, run, fault, **moment)  # type: ignore[arg-type]
        died += outcome.killed
        if outcome.killed:
            continue
        if outcome.answer != STEPS:
            return f"{run.name} ended with {outcome.code}: {outcome.error}"
        if outcome_of(run) != expected:
            return f"{run.name}, killed and resumed, is not the uninterrupted run"
        if not moment:
            return ""
        finished += 1


def test_c1_killed_and_resumed_training_is_bit_identical_to_an_uninterrupted_run(
    corpus, uninterrupted, tmp_path, seed, cases, kept
):
    folder, seconds = uninterrupted
    kills = cases(30, 500)
    when = moments(random.Random(seed), seconds)
    assert first_difference(corpus, tmp_path, folder, kills=kills, when=when) == ""
    kept("C1", f"{kills} kills, 0 losses and 0 weights differ by a bit")


def test_c1_control_lstm_states_that_are_not_restored(corpus, uninterrupted, tmp_path, caught):
    late = repeat({"kill_at": 200})  # several states were saved by then
    found = first_difference(
        corpus, tmp_path, uninterrupted[0], kills=1, when=late, fault="forgets its states"
    )
    assert "is not the uninterrupted run" in found
    caught("C1", found)


def corrupt(folder: Path, case: int, generator: random.Random) -> None:
    """Corrupt a saved state in one of ten ways."""
    tensors, counters = folder / "state.safetensors", folder / "state.json"
    if case < 3:  # one bit of the weights, the optimizer or the header
        content = bytearray(tensors.read_bytes())
        content[generator.randrange(len(content))] ^= 1 << generator.randrange(8)
        tensors.write_bytes(content)
    elif case < 5:  # one digit of the counters
        content = bytearray(counters.read_bytes())
        digits = [at for at, byte in enumerate(content) if 49 <= byte <= 57]
        at = generator.choice(digits)
        content[at] = 48 + (content[at] - 47) % 10
        counters.write_bytes(content)
    elif case < 7:
        cut = (tensors, counters)[case - 5]
        cut.write_bytes(cut.read_bytes()[: cut.stat().st_size // 2])
    elif case < 9:
        (tensors, counters)[case - 7].unlink()
    else:
        shutil.rmtree(folder)
        folder.mkdir()


@pytest.fixture
def corrupt_runs(corpus, uninterrupted, tmp_path, seed) -> list[Path]:
    """Copies of a finished run with a newest state that is corrupt, each in another way."""
    runs = []
    for case in range(10):
        run = tmp_path / f"run-{case}"
        shutil.copytree(uninterrupted[0], run)
        corrupt(sorted((run / "resume").iterdir())[-1], case, random.Random(seed + case))
        runs.append(run)
    return runs


def wrongly_trusted(runs: list[Path], caplog: pytest.LogCaptureFixture) -> str:
    """The first run whose corrupt newest state is not named and skipped."""
    for run in runs:
        caplog.clear()
        with caplog.at_level(logging.WARNING):
            saved = load_latest(run, device=torch.device("cpu"))
        older, newest = sorted((run / "resume").iterdir())
        if f"{newest} is corrupt" not in caplog.text:
            return f"{run.name}: no warning"
        if saved is None or saved.counters["step"] != int(older.name.removeprefix("step-")):
            return f"{run.name}: the older state was not read"
    return ""


def test_c3_the_last_two_states_are_kept_and_a_corrupt_newest_one_is_named_and_skipped(
    corpus, uninterrupted, corrupt_runs, tmp_path, caplog, kept
):
    assert wrongly_trusted(corrupt_runs, caplog) == ""
    last = corrupt_runs[-1]
    outcome = run_child(train_on, corpus, last)
    assert outcome.answer == STEPS, outcome.error
    assert outcome_of(last) == outcome_of(uninterrupted[0])
    kept("C3", f"{len(corrupt_runs)} kinds of damage named and skipped; two states kept")


def test_c3_control_unchecked_digests(uninterrupted, corrupt_runs, caplog, caught, monkeypatch):
    from elmo_deploy.training.run import resume

    monkeypatch.setattr(resume, "sha256_of", lambda path: _Anything())
    monkeypatch.setattr(resume, "_digest", lambda counters: _Anything())
    found = wrongly_trusted(corrupt_runs, caplog)
    assert "no warning" in found
    caught("C3", found)


class _Anything(str):
    """A string that equals every digest."""

    def __eq__(self, other: object) -> bool:
        return True

    def __hash__(self) -> int:
        return 0
