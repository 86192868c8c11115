"""Work of other processes is seen, work of one's own is not."""

from __future__ import annotations

import subprocess
import sys

import pytest

from elmo_deploy.benchmark import quiet
from elmo_deploy.benchmark.loads import grid_load
from elmo_deploy.benchmark.quiet import CpuTime, wait_until_quiet
from elmo_deploy.benchmark.sampling import take_sample

needs_stat = pytest.mark.skipif(not quiet.STAT.exists(), reason="this system has no /proc/stat")


def test_others_used_what_this_process_did_not():
    before = CpuTime(wall=0.0, machine=10.0, own=1.0)
    after = CpuTime(wall=10.0, machine=25.0, own=3.0)
    assert after.others_since(before) == pytest.approx(1.3, abs=0.2)


@needs_stat
def test_another_process_is_noticed():
    before = CpuTime.now()
    subprocess.run([sys.executable, "-c", "sum(range(10_000_000))"], check=True)
    assert CpuTime.now().others_since(before) > quiet.DISTURBED


def test_without_proc_stat_every_moment_is_quiet(monkeypatch, tmp_path):
    monkeypatch.setattr(quiet, "STAT", tmp_path / "absent")
    assert wait_until_quiet(1.0)


def test_waiting_ends(monkeypatch):
    monkeypatch.setattr(quiet, "DISTURBED", -1.0)
    assert not wait_until_quiet(0.05)


def test_a_sample_without_patience_is_taken_at_once_and_says_that_it_was_disturbed(monkeypatch):
    monkeypatch.setattr("elmo_deploy.benchmark.sampling.DISTURBED", -1.0)
    calls = []
    sample = take_sample(calls.append, grid_load(1, 1, [("a",)]), minimum=0.0, patience=0.0)
    assert sample.disturbed
    assert len(calls) == 1


def test_a_sample_repeats_whole_passes_until_it_lasts_as_long_as_asked():
    load = grid_load(1, 1, [("a",)], n_calls=2)
    sample = take_sample(lambda _: None, load, minimum=0.05, patience=0.0)
    assert len(sample.passes) > 1
    assert {len(calls) for calls in sample.passes} == {2}
