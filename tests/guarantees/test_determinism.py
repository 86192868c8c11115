"""D1 and D3: the same sentence gets the same bits.

D4 is in tests/export/verify/test_parity.py and tests/test_golden_bundle.py, D5 in
tests/export/test_export.py.
"""

from __future__ import annotations

import random

import numpy as np

from elmo_runtime.bundle.manifest import Bundle
from elmo_runtime.embedder import Embedder
from guarantee_kit.backends import Watched
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


def test_d1_vectors_are_bit_identical_in_every_batch_order_and_history(
    bundle, embedder, seed, cases, kept
):
    count = cases(1_000, 20_000)
    options = {"backend": "onnxruntime-cpu", "token_budget": 100, "cache_words": 200}
    with Embedder.load(bundle, **options) as batched:
        assert differing(embedder, batched, count, seed) == 0
    kept("D1", f"{count:,} sentences in 2 partitions each, 5 outputs, 0 differing bits")


def test_d1_control_a_sentence_with_the_length_of_the_longest(bundle, embedder, seed, caught):
    """Every row gets the longest length, so that the backward pass starts in the padding."""

    def leak(inputs) -> None:
        inputs.lengths[:] = inputs.lengths.max()

    with Embedder(Bundle.open(bundle), Watched(bundle, before=leak)) as batched:
        wrong = differing(embedder, batched, 100, seed)
    assert wrong > 0
    caught("D1", f"length of the longest sentence: {wrong} of 100 sentences differ")


def test_d1_control_a_row_that_remembers_the_last_call(bundle, embedder, seed, caught):
    with Embedder.load(bundle, backend="onnxruntime-cpu", state="carry") as batched:
        wrong = differing(embedder, batched, 100, seed)
    assert wrong > 0
    caught("D1", f"state of the last call: {wrong} of 100 sentences differ")


def digests(bundle, sentences, threads, perturbation=0.0) -> set[str]:
    """The digests of the vectors, one process per number of threads."""
    outcomes = [
        run_child(digest_of_vectors, bundle, sentences, number, perturbation, timeout=300)
        for number in threads
    ]
    assert all(outcome.code == 0 for outcome in outcomes), outcomes
    return {outcome.answer for outcome in outcomes}


def test_d3_processes_and_threads_change_no_bit(bundle, seed, kept):
    sentences = sentences_of(random.Random(seed), 100)
    assert len(digests(bundle, sentences, (1, 2, 1, 2, 1, 2))) == 1
    kept("D3", "100 sentences, 3 processes x {1, 2} threads, 1 digest")


def test_d3_control_a_thread_that_moves_the_last_bits(bundle, seed, caught):
    sentences = sentences_of(random.Random(seed), 100)
    found = digests(bundle, sentences, (1, 2), perturbation=1e-7)
    assert len(found) == 2
    caught("D3", f"{len(found)} digests")
