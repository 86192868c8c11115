"""Times -> percentiles, and ratios with the interval that decides their significance."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Latency:
    """Seconds of a call. If n < 100, the p99 is the slowest call."""

    n: int
    p50: float
    p90: float
    p99: float
    mean: float
    fastest: float

    @classmethod
    def of(cls, seconds: Sequence[float]) -> Latency:
        """Percentiles by the nearest rank: each one is a measured time."""
        ranked = sorted(seconds)
        p50, p90, p99 = (ranked[math.ceil(len(ranked) * share) - 1] for share in (0.5, 0.9, 0.99))
        return cls(len(ranked), p50, p90, p99, sum(ranked) / len(ranked), ranked[0])


@dataclass(frozen=True)
class Ratio:
    """The speed relative to the baseline in the same rounds, with its range.

    With enough rounds, the range contains the true median with 95 % confidence. With fewer, it goes
    from the smallest to the largest ratio that was measured and proves nothing.
    """

    median: float
    low: float
    high: float
    enough_rounds: bool = True

    @property
    def is_a_difference(self) -> bool:
        """False if the range contains 1, so that both may be equally fast, or proves nothing."""
        return self.enough_rounds and not self.low <= 1.0 <= self.high


def speed_ratio(seconds: Sequence[float], baseline: Sequence[float]) -> Ratio:
    """The paired ratio baseline / seconds of each round, and the range of its median.

    The interval inverts the sign test, which makes no assumption about the distribution of times:
    the true median is between the k-th smallest and the k-th largest ratio unless k - 1 or fewer
    rounds are on one side. With up to five rounds no interval reaches 95 %.
    """
    ratios = sorted(b / s for s, b in zip(seconds, baseline, strict=True))
    outside = _rounds_outside(len(ratios))
    median = float(np.median(ratios))
    if outside is None:
        return Ratio(median, ratios[0], ratios[-1], enough_rounds=False)
    return Ratio(median, ratios[outside], ratios[-1 - outside])


def _rounds_outside(n: int) -> int | None:
    """How many of the n ranked ratios each end may lose; None if no interval is possible."""
    error, cut = 0.0, None
    for k in range(n // 2):
        error += 2 * math.comb(n, k) / 2**n  # the probability that the median is beyond rank k
        if error > 1 - CONFIDENCE:
            break
        cut = k
    return cut
