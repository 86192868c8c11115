"""Closing waits for running calls; a fork is told what happened. Guarantee T2."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
import threading

import pytest

from elmo_runtime.embedder import Embedder
from elmo_runtime.errors import ClosedError

FORK_AND_EMBED = """
import os, sys
from elmo_runtime import ClosedError, Embedder
embedder = Embedder.load(sys.argv[1], threads=2)
embedder.embed(["a b"])
child = os.fork()
if child == 0:
    try:
        embedder.embed(["a b"])
    except ClosedError as error:
        print(error, flush=True)
    embedder.close()
    sys.exit(7)
_, status = os.waitpid(child, 0)
print(os.waitstatus_to_exitcode(status), embedder.embed(["a b"])["elmo"][0].shape)
"""


def embed_in_another_process(bundle):
    with Embedder.load(bundle) as elmo:
        return elmo.embed(["a b"])["elmo"][0]


def test_a_closed_embedder_says_so(bundle):
    embedder = Embedder.load(bundle)
    embedder.close()
    with pytest.raises(ClosedError, match="is closed; load the bundle again"):
        embedder.embed(["a b"])


def test_a_stream_ends_with_its_embedder(bundle):
    embedder = Embedder.load(bundle, token_budget=1)
    stream = embedder.embed_stream(["a b"] * 99)
    next(stream)
    embedder.close()
    with pytest.raises(ClosedError):
        list(stream)


def test_the_backend_is_closed_once(spy_on):
    spy, embedder = spy_on()
    with embedder:
        embedder.close()
    embedder.close()
    assert spy.closed == 1


def test_close_waits_for_a_running_call(spy_on):
    running, may_go_on = threading.Event(), threading.Event()

    def hold(rows):
        running.set()
        may_go_on.wait(60)

    spy, embedder = spy_on(trouble=hold)
    results: list[object] = []
    call = threading.Thread(target=lambda: results.append(embedder.embed(["a b"])))
    call.start()
    running.wait(60)
    closing = threading.Thread(target=embedder.close)
    closing.start()
    closing.join(0.2)
    assert closing.is_alive() and spy.closed == 0
    may_go_on.set()
    call.join(60)
    closing.join(60)
    assert len(results) == 1 and spy.closed == 1


def test_a_fork_is_told_and_ends_while_the_parent_goes_on(bundle):
    """Twice a fork hung at its exit: for onnxruntime's telemetry, and for a session it freed."""
    run = subprocess.run(
        [sys.executable, "-c", FORK_AND_EMBED, str(bundle)],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, "PYTHONPATH": ":".join(sys.path)},
    )
    told, after = run.stdout.splitlines()
    assert "this is its fork" in told and "start processes by spawn" in told
    assert after == "7 (2, 16)"


def test_a_spawned_process_loads_its_own(bundle, embedder):
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        there = pool.apply(embed_in_another_process, (bundle,))
    assert (there == embedder.embed(["a b"])["elmo"][0]).all()
