"""Whether a sentence has the same bits in every batch, and in every process and thread count."""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from elmo_runtime.embedder import Embedder
from guarantee_kit.children import run_child
from guarantee_kit.requests import digest_of_vectors

OUTPUTS = ("word_emb", "lstm_outputs1", "lstm_outputs2", "elmo", "default")
WORDS = ["the", "cat", "sat", "été", "東京", "a", *(f"word{number}" for number in range(500))]


def sentences_of(generator: random.Random, count: int) -> list[list[str]]:
    """Lengths 0 to 40, and for one sentence in 50 a length of 41 to 150, above the budget below."""
    lengths = (generator.randrange(41, 151) if n % 50 == 0 else generator.randrange(41)
               for n in range(count))  # fmt: skip
    return [generator.choices(WORDS, k=length) for length in lengths]


def parts(generator: random.Random, order: list[int]) -> list[list[int]]:
    """Random parts of the order, from one sentence to all."""
    calls = []
    while order:
        size = generator.choice((1, 2, 7, 40, len(order)))
        calls.append(order[:size])
        order = order[size:]
    return calls


def differing(embedder: Embedder, batched: Embedder, count: int, seed: int) -> int:
    """Count the sentences whose bits differ between a random batch and a batch of one."""
    generator = random.Random(seed)
    sentences = sentences_of(generator, count)
    single = [embedder.embed([sentence], outputs=OUTPUTS) for sentence in sentences]
    wrong = set()
    for _ in range(2):
        for call in parts(generator, generator.sample(range(count), count)):
            out = batched.embed([sentences[number] for number in call], outputs=OUTPUTS)
            for position, number in enumerate(call):
                same = (np.array_equal(out[n][position], single[number][n][0]) for n in OUTPUTS)
                if not all(same):
                    wrong.add(number)
    return len(wrong)


def digests(
    bundle: Path,
    sentences: Sequence[Sequence[str]],
    threads: Iterable[int],
    perturbation: float = 0.0,
    **options: str,
) -> set[str]:
    """The digest of all vectors from one process per thread count; equal digests count once."""
    outcomes = [
        run_child(digest_of_vectors, bundle, sentences, number, perturbation, options)
        for number in threads
    ]
    assert all(outcome.code == 0 for outcome in outcomes), outcomes
    return {outcome.answer for outcome in outcomes}
