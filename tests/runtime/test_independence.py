"""The vectors of a sentence depend only on the sentence. Guarantees D1, T1 and part of D3."""

from __future__ import annotations

import itertools
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from elmo_runtime.embedder import Embedder
from elmo_runtime.options import CpuOptions

OUTPUTS = ("word_emb", "lstm_outputs1", "lstm_outputs2", "elmo", "default")
WORDS = [
    "the",
    "cat",
    "",
    "Donaudampfschifffahrtsgesellschaft",
    "naïve",
    "☕",
    "x" * 48,
    "<S>",
    "it",
]
SENTENCES = [
    [WORDS[(start * step) % len(WORDS)] for step in range(length)]
    for start, length in enumerate([3, 9, 1, 17, 5, 5, 2, 30, 0, 12, 7, 1])
]
ORDERS = st.permutations(range(len(SENTENCES)))
CUTS = st.sets(st.integers(1, len(SENTENCES) - 1))


def vectors_of(embedder: Embedder, rows) -> dict[int, list[np.ndarray]]:
    """Row -> its arrays, one an output, computed in one call."""
    out = embedder.embed([SENTENCES[row] for row in rows], outputs=OUTPUTS)
    return {row: [out[name][at] for name in OUTPUTS] for at, row in enumerate(rows)}


def differing(embedder: Embedder, order, cuts, alone) -> int:
    """The number of sentences with other bits than in separate calls."""
    edges = [0, *sorted(cuts), len(order)]
    count = 0
    for start, stop in itertools.pairwise(edges):
        for row, vectors in vectors_of(embedder, order[start:stop]).items():
            count += not all(map(np.array_equal, vectors, alone[row]))
    return count


@pytest.fixture(scope="module")
def alone(bundle):
    """Every sentence in a call of its own, without cache and on one thread."""
    with Embedder.load(bundle, cache_words=0, cpu=CpuOptions(threads=1)) as elmo:
        return {row: vectors_of(elmo, [row])[row] for row in range(len(SENTENCES))}


@pytest.fixture(scope="module", params=[(4096, 1000), (40, 3), (1, 0)], ids=str)
def other(request, bundle):
    """Embedders of other batches, caches and threads."""
    budget, words = request.param
    with Embedder.load(
        bundle, token_budget=budget, cache_words=words, cpu=CpuOptions(threads=2)
    ) as elmo:
        yield elmo


@settings(max_examples=30, deadline=None)
@given(order=ORDERS, cuts=CUTS)
def test_batch_order_padding_cache_and_history_change_no_bit(other, alone, order, cuts):
    assert differing(other, order, cuts, alone) == 0


def test_the_padded_form_does_not_either(bundle, alone, monkeypatch):
    monkeypatch.setattr("elmo_runtime.backends.onnxruntime.backend.CPU_FORMS", ("padded",))
    with Embedder.load(bundle, cache_words=0, cpu=CpuOptions(threads=1)) as elmo:
        lonely = {row: vectors_of(elmo, [row])[row] for row in range(len(SENTENCES))}
        assert differing(elmo, range(len(SENTENCES)), {5}, lonely) == 0


def test_a_backend_that_mixes_sentences_is_noticed(spy_on, alone):
    """The control: the last bit of one sentence's vectors depends on the size of its batch."""
    spy, elmo = spy_on()
    run = spy.run_bilm

    def with_company(inputs, outputs, *, half=False):
        computed = run(inputs, outputs, half=half)
        if len(inputs.lengths) > 1:
            computed["elmo"][0, 0] = np.nextafter(computed["elmo"][0, 0], np.float32(9))
        return computed

    spy.run_bilm = with_company
    assert differing(elmo, range(len(SENTENCES)), {6}, alone) > 0


def test_sixteen_threads_get_what_one_gets(embedder, alone):
    generator = np.random.default_rng(0)
    requests = [generator.permutation(len(SENTENCES))[: 1 + n % 12] for n in range(160)]
    with ThreadPoolExecutor(16) as threads:
        for answer in threads.map(lambda rows: vectors_of(embedder, rows), requests):
            for row, vectors in answer.items():
                assert all(map(np.array_equal, vectors, alone[row]))


def test_threads_that_carry_follow_one_another(bundle):
    with Embedder.load(bundle, state="carry") as elmo:
        serial = {elmo.embed(["a b"])["elmo"][0].tobytes() for _ in range(40)}
        elmo.reset_state()
        with ThreadPoolExecutor(8) as threads:
            calls = threads.map(lambda _: elmo.embed(["a b"])["elmo"][0].tobytes(), range(40))
            assert set(calls) == serial
