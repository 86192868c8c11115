"""T1: one Embedder serves many threads, bit-identical to one thread.

T2 is in tests/runtime/inference/test_call_gate.py.
"""

from __future__ import annotations

import random
import threading
import time

import numpy as np
import pytest

from elmo_runtime.bundle.manifest import Bundle
from elmo_runtime.embedder import Embedder
from elmo_runtime.options import CpuOptions
from guarantee_kit.backends import Watched

pytestmark = pytest.mark.slow
THREADS = 16
WORDS = [f"word{number}" for number in range(400)]


def requests(seed: int, count: int) -> list[list[list[str]]]:
    generator = random.Random(seed)
    return [
        [generator.choices(WORDS, k=generator.randrange(12)) for _ in range(generator.randrange(4))]
        for _ in range(count)
    ]


def differing(embedder: Embedder, threads: int, each: int, seed: int, seconds: float = 0) -> int:
    """Count the requests whose vectors differ between many threads and one.

    seconds: how long to repeat the requests.
    """
    work = [requests(seed + number, each) for number in range(threads)]
    serial = [[embedder.embed(request)["elmo"] for request in share] for share in work]
    wrong, end = [0] * threads, time.monotonic() + seconds

    def run(number: int) -> None:
        while True:
            for request, expected in zip(work[number], serial[number], strict=True):
                found = embedder.embed(request)["elmo"]
                wrong[number] += not all(map(np.array_equal, found, expected))
            if time.monotonic() >= end:
                return

    workers = [threading.Thread(target=run, args=(number,)) for number in range(threads)]
    for thread in workers:
        thread.start()
    for thread in workers:
        thread.join()
    return sum(wrong)


def test_t1_sixteen_threads_get_the_bits_of_one_thread(bundle, seed, cases, kept):
    each, seconds = cases(200, 200), cases(0, 3_600)
    with Embedder.load(
        bundle, backend="onnxruntime-cpu", cache_words=100, cpu=CpuOptions(threads=1)
    ) as embedder:
        assert differing(embedder, THREADS, each, seed, seconds) == 0
        total = embedder.stats().sentences
    kept("T1", f"{THREADS} threads x {each} requests ({total:,} sentences), 0 differing bits")


def test_t1_control_a_shared_buffer(bundle, seed, caught):
    shared = {}

    def share(inputs) -> None:
        """Share the inputs with the next thread, as a reused buffer would."""
        shared["lengths"] = inputs.lengths
        time.sleep(0.0005)
        if len(shared["lengths"]) == len(inputs.lengths):
            inputs.lengths[:] = np.minimum(shared["lengths"], inputs.lengths)

    watched = Watched(bundle, before=share)
    with Embedder(Bundle.open(bundle), watched) as embedder:
        wrong = differing(embedder, 4, 20, seed)
    assert wrong > 0
    caught("T1", f"{wrong} of 80 requests differ")
