"""Timing of one system: passes over a load's calls while the machine is quiet."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from elmo_deploy.benchmark.loads import Load, Sentence
from elmo_deploy.benchmark.quiet import DISTURBED, CpuTime, wait_until_quiet

Embed = Callable[[Sequence[Sentence]], object]  # one batch -> its vectors


@dataclass(frozen=True)
class Sample:
    """Seconds of every call, pass by pass.

    `disturbed`: another process worked during the sample. `waited`: seconds of waiting for others.
    """

    passes: tuple[tuple[float, ...], ...]
    disturbed: bool
    waited: float

    @property
    def seconds(self) -> float:
        """Seconds of the fastest pass over all calls; the other passes only add noise."""
        return min(sum(calls) for calls in self.passes)


def take_sample(embed: Embed, load: Load, *, minimum: float, patience: float) -> Sample:
    """Repeat the load for at least `minimum` seconds while no other process works.

    A disturbed sample is repeated for up to `patience` seconds; then the last one is returned and
    marked as disturbed. With patience 0 the first sample is returned.
    """
    began = time.monotonic()
    while True:
        wait_until_quiet(began + patience - time.monotonic())
        before = CpuTime.now()
        passes = [one_pass(embed, load)]
        while time.monotonic() - before.wall < minimum:
            passes.append(one_pass(embed, load))
        disturbed = CpuTime.now().others_since(before) > DISTURBED
        if not disturbed or time.monotonic() - began >= patience:
            return Sample(tuple(passes), disturbed, before.wall - began)


def one_pass(embed: Embed, load: Load) -> tuple[float, ...]:
    """Seconds of every call of the load."""
    times = []
    for call in load.calls:
        start = time.perf_counter()
        embed(call)
        times.append(time.perf_counter() - start)
    return tuple(times)
