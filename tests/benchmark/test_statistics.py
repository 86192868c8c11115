"""Percentiles are times that were measured, and noise is not called a difference."""

from __future__ import annotations

import numpy as np
import pytest

from elmo_deploy.benchmark.report.statistics import Latency, speed_ratio


def test_percentiles_are_measured_times():
    latency = Latency.of([float(ms) for ms in range(100, 0, -1)])
    assert (latency.p50, latency.p90, latency.p99) == (50.0, 90.0, 99.0)


def test_the_p99_of_few_calls_is_the_slowest():
    assert Latency.of([3.0, 1.0, 2.0]).p99 == 3.0


def test_a_system_that_is_always_faster_is_different():
    ratio = speed_ratio([1.0, 1.1, 0.9, 1.0, 1.2, 1.0], [2.0, 2.0, 2.1, 1.9, 2.0, 2.0])
    assert ratio.is_a_difference
    assert ratio.low > 1.5


def test_a_system_that_wins_and_loses_is_not():
    ratio = speed_ratio([1.0, 1.1, 0.9, 1.0, 1.1, 0.9, 1.0], [1.0, 0.9, 1.1, 1.1, 1.0, 1.0, 1.0])
    assert not ratio.is_a_difference


def test_five_rounds_give_the_measured_range_and_prove_nothing():
    """The range was (0, infinity), so a tenfold speedup was reported as "no difference"."""
    ratio = speed_ratio([1.0] * 5, [9.0, 10.0, 11.0, 10.0, 12.0])
    assert (ratio.median, ratio.low, ratio.high) == (10.0, 9.0, 12.0)
    assert not ratio.enough_rounds
    assert not ratio.is_a_difference


@pytest.mark.parametrize("rounds", [6, 7, 9, 15])
def test_equal_systems_rarely_differ(rounds):
    """The interval covers 95 %; of 2,000 pairs of equal systems at most 5 % may differ."""
    times = np.random.default_rng(0).lognormal(size=(2000, 2, rounds))
    differing = sum(speed_ratio(list(a), list(b)).is_a_difference for a, b in times)
    assert differing <= 0.06 * len(times)
