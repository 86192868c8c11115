"""R1 and R2: requests, loading and closing leave no memory, files or threads."""

from __future__ import annotations

import gc
import weakref

import pytest

from elmo_runtime.embedder import Embedder
from guarantee_kit import memory
from guarantee_kit.children import HANG, run_child
from guarantee_kit.requests import growth_over_requests, growth_with_leak, traces_of_loading

pytestmark = pytest.mark.slow
LIMIT = 8 * memory.MIB
LEAK = 1024  # bytes per request


def test_r1_requests_of_random_shapes_leak_nothing(bundle, seed, cases, kept):
    requests = cases(20_000, 1_000_000)
    outcome = run_child(growth_over_requests, bundle, seed, requests, timeout=HANG + requests / 20)
    assert outcome.code == 0, outcome.error
    assert outcome.answer <= LIMIT
    kept("R1", f"{requests:,} requests, {outcome.answer / memory.MIB:+.1f} MiB in the second half")


def test_r1_control_a_leak_of_a_kilobyte_per_request(caught):
    outcome = run_child(growth_with_leak, LEAK, 20_000)
    assert outcome.answer > LIMIT
    caught("R1", f"{outcome.answer / memory.MIB:+.1f} MiB in the second half")


def test_r2_loading_and_closing_leaks_nothing(bundle, cases, kept):
    times = cases(200, 2_000)
    outcome = run_child(traces_of_loading, bundle, times, timeout=HANG + times)
    assert outcome.code == 0, outcome.error
    left = outcome.answer
    assert left["bytes"] <= LIMIT
    assert (left["files"], left["threads"]) == (0, 0)
    kept("R2", f"{times} times: {left['bytes'] / memory.MIB:+.1f} MiB, 0 files, 0 threads")


def test_a_closed_embedder_is_freed_at_once(bundle):
    """The embedder and its word cache of up to 64 MB stayed until a garbage collection."""
    elmo = Embedder.load(bundle, backend="onnxruntime-cpu")
    elmo.embed(["the cat sat"])
    parts = [weakref.ref(part) for part in (elmo, elmo._pipeline, elmo._pipeline.backend)]
    gc.disable()
    try:
        elmo.close()
        del elmo
        assert [part() for part in parts] == [None, None, None]
    finally:
        gc.enable()


def test_r2_control_embedders_that_are_never_closed(bundle, caught):
    left = run_child(traces_of_loading, bundle, 10, "kept").answer
    assert left["threads"] > 0
    caught("R2", f"after 10 times {left}")
