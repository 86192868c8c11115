"""How many calls run and wait, a close that waits for them, and a fork (guarantee T2)."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
import threading

import pytest

from elmo_runtime.embedder import Embedder
from elmo_runtime.errors import BusyError, ClosedError, InputError
from elmo_runtime.inference.call_gate import CallGate
from elmo_runtime.options import Limits

FORK_AND_EMBED = """
import os, sys
from elmo_runtime import ClosedError, CpuOptions, Embedder
embedder = Embedder.load(sys.argv[1], cpu=CpuOptions(threads=2))
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


def test_a_closed_embedder_raises_closed_error(bundle):
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
        may_go_on.wait(900)

    spy, embedder = spy_on(trouble=hold)
    results: list[object] = []
    call = threading.Thread(target=lambda: results.append(embedder.embed(["a b"])))
    call.start()
    running.wait(900)
    closing = threading.Thread(target=embedder.close)
    closing.start()
    closing.join(0.2)
    assert closing.is_alive() and spy.closed == 0
    may_go_on.set()
    call.join(900)
    closing.join(900)
    assert len(results) == 1 and spy.closed == 1


def test_a_fork_gets_an_error_and_ends_while_the_parent_continues(bundle):
    """Twice a fork hung at its exit: for onnxruntime's telemetry, and for a session it freed."""
    run = subprocess.run(
        [sys.executable, "-c", FORK_AND_EMBED, str(bundle)],
        capture_output=True,
        text=True,
        timeout=900,
        env={**os.environ, "PYTHONPATH": ":".join(sys.path)},
    )
    told, after = run.stdout.splitlines()
    assert "this is its fork" in told and "start processes with spawn" in told
    assert after == "7 (2, 16)"


def test_a_spawned_process_loads_its_own(bundle, embedder):
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        there = pool.apply(embed_in_another_process, (bundle,))
    assert (there == embedder.embed(["a b"])["elmo"][0]).all()


@pytest.fixture
def occupied():
    """A function that takes a turn in a thread; all turns end with the test."""
    leave, threads = threading.Event(), []

    def occupy(gate):
        entered = threading.Event()

        def stay():
            with gate.call():
                entered.set()
                leave.wait()

        threads.append(threading.Thread(target=stay))
        threads[-1].start()
        return entered

    yield occupy
    leave.set()
    for thread in threads:
        thread.join()


def test_without_limits_every_call_runs_at_once(occupied):
    gate = CallGate("it", Limits())
    for _ in range(3):
        assert occupied(gate).wait(900)


def test_a_call_waits_for_its_turn(occupied):
    gate = CallGate("it", Limits(max_running=1))
    with gate.call():
        second = occupied(gate)
        assert not second.is_set()
    assert second.wait(900)


def test_a_turn_ends_when_the_call_fails():
    gate = CallGate("it", Limits(max_running=1, max_waiting=0))
    for _ in range(2):
        with pytest.raises(ZeroDivisionError), gate.call():
            raise ZeroDivisionError


def test_a_call_beyond_the_limit_is_refused_at_once(occupied):
    gate = CallGate("it", Limits(max_running=1, max_waiting=0))
    assert occupied(gate).wait(900)
    with pytest.raises(BusyError, match="1 calls run and 0 wait, which is the limit; try again"):
        gate.call().__enter__()


def test_waiting_ends_with_the_timeout(occupied):
    gate = CallGate("it", Limits(max_running=1, timeout=0.01))
    assert occupied(gate).wait(900)
    with pytest.raises(BusyError, match=r"no turn within 0.01 s"):
        gate.call().__enter__()


@pytest.mark.parametrize(
    "limits",
    [
        {"max_running": 0},
        {"max_running": True},
        {"max_running": 1, "max_waiting": -1},
        {"max_running": 1, "timeout": float("nan")},
        {"max_waiting": 1},
        {"timeout": 1.0},
    ],
)
def test_limits_that_no_call_can_meet_are_refused(limits):
    with pytest.raises(InputError):
        Limits(**limits)


def test_a_close_waits_for_calls_that_wait(occupied):
    gate = CallGate("it", Limits(max_running=1))
    with gate.call():
        second = occupied(gate)
        while not gate._waiting:
            second.wait(0.001)
        closing = threading.Thread(target=gate.close)
        closing.start()
    assert second.wait(900)  # it was admitted before the close
    assert closing.is_alive()


def test_a_close_does_not_wait_for_a_call_that_gave_up(occupied):
    gate = CallGate("it", Limits(max_running=1, timeout=0.01))
    with gate.call(), pytest.raises(BusyError):
        gate.call().__enter__()
    assert gate.close() and not gate.close()
