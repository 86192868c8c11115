"""D1 and D3: the same sentence gets the same bits.

D4 is in tests/export/verify/test_parity.py and tests/test_golden_bundle.py, D5 in
tests/export/test_export.py.
"""

from __future__ import annotations

import random

import pytest

from elmo_runtime.bundle.manifest import Bundle
from elmo_runtime.embedder import Embedder
from guarantee_kit.backends import Watched
from guarantee_kit.invariance import differing, digests, sentences_of


@pytest.mark.slow
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


def test_d3_processes_and_threads_change_no_bit(bundle, seed, kept):
    sentences = sentences_of(random.Random(seed), 100)
    assert len(digests(bundle, sentences, (1, 2, 1, 2, 1, 2))) == 1
    kept("D3", "100 sentences, 3 processes x {1, 2} threads, 1 digest")


def test_d3_control_a_thread_that_moves_the_last_bits(bundle, seed, caught):
    sentences = sentences_of(random.Random(seed), 100)
    found = digests(bundle, sentences, (1, 2), perturbation=1e-7)
    assert len(found) == 2
    caught("D3", f"{len(found)} digests")
