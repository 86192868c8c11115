"""A full house: how many calls run, wait and give up."""

import threading

import pytest

from elmo_runtime.errors import BusyError, InputError
from elmo_runtime.inference.concurrency_limits import Admission, Limits


@pytest.fixture
def occupied():
    """A function that takes a turn in a thread; all turns end with the test."""
    leave, threads = threading.Event(), []

    def occupy(admission):
        entered = threading.Event()

        def stay():
            with admission.turn():
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
    admission = Admission(Limits())
    for _ in range(3):
        assert occupied(admission).wait(10)


def test_a_call_waits_for_its_turn(occupied):
    admission = Admission(Limits(max_running=1))
    with admission.turn():
        second = occupied(admission)
        assert not second.is_set()
    assert second.wait(10)


def test_a_turn_is_given_back_when_the_call_fails():
    admission = Admission(Limits(max_running=1, max_waiting=0))
    for _ in range(2):
        with pytest.raises(ZeroDivisionError), admission.turn():
            raise ZeroDivisionError


def test_one_too_many_is_refused_at_once(occupied):
    admission = Admission(Limits(max_running=1, max_waiting=0))
    assert occupied(admission).wait(10)
    with pytest.raises(BusyError, match="1 calls run and 0 wait, which is the limit; try again"):
        admission.turn().__enter__()


def test_waiting_ends_with_the_timeout(occupied):
    admission = Admission(Limits(max_running=1, timeout=0.01))
    assert occupied(admission).wait(10)
    with pytest.raises(BusyError, match=r"no turn within 0.01 s"):
        admission.turn().__enter__()


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
