"""A small text with its vocabulary and options, and the quickest way to train on it."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import pytest

from elmo_deploy.training import TrainingOptions, TrainingResult, Vocabulary, train
from elmo_deploy.training.data.shards import find_shards, read_all_sentences
from random_models import tiny_config

WORDS = (
    "the",
    "cat",
    "sat",
    "on",
    "mats",
    "while",
    "dogs",
    "bark",
    "café",
    "été",
    "東京",
    "a" * 60,
)


@pytest.fixture(scope="session")
def text(tmp_path_factory) -> Path:
    """Two shards of 60 sentences of 3 to 12 words; late words of the list are rare."""
    folder = tmp_path_factory.mktemp("text")
    generator = random.Random(0)
    weights = [1 / (rank + 1) for rank in range(len(WORDS))]
    for shard in range(2):
        lines = [
            " ".join(generator.choices(WORDS, weights, k=generator.randint(3, 12)))
            for _ in range(60)
        ]
        (folder / f"{shard}.txt").write_text("\n".join(lines) + "\n", "utf-8")
    return folder


@pytest.fixture(scope="session")
def shards(text) -> tuple[Path, ...]:
    """Its files."""
    return find_shards([str(text / "*.txt")])


@pytest.fixture(scope="session")
def vocabulary(shards) -> Vocabulary:
    """Its words but the rarest two, which are <UNK>."""
    return Vocabulary.count(read_all_sentences(shards), max_size=13)


@pytest.fixture
def options() -> Callable[..., TrainingOptions]:
    """A run of 20 steps of the tiny model; keywords replace options."""

    def make(**changes: object) -> TrainingOptions:
        fields: dict[str, object] = {
            "model": tiny_config(),
            "batch_size": 4,
            "unroll_steps": 5,
            "n_epochs": 1,
            "n_train_tokens": 400,
            "n_negative_samples_batch": 6,
        }
        return TrainingOptions(**{**fields, **changes})  # type: ignore[arg-type]

    return make


@pytest.fixture
def run(shards, vocabulary) -> Callable[..., TrainingResult]:
    """Train: `run(options(), folder, **keywords)`."""

    def go(options: TrainingOptions, folder: Path, **keywords: object) -> TrainingResult:
        arguments: dict[str, object] = {"log_every": 5, "save_every": 7, "device": "cpu"}
        return train(
            options,
            shards=shards,
            vocabulary=vocabulary,
            run=folder,
            **{**arguments, **keywords},  # type: ignore[arg-type]
        )

    return go
