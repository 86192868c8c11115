"""Times one system: passes over a load's calls, taken while the machine is quiet."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from elmo_deploy.benchmark.loads import Load, Sentence
from elmo_deploy.benchmark.quiet import DISTURBED, CpuTime, wait_until_quiet

Embed = Callable[[Sequence[Sentence]], object]  # one batch in, its vectors out


@dataclass(frozen=True)
class Sample:
    """Seconds of every call, pass after pass.

    disturbed: another process worked meanwhile. waited: seconds lost to others' work.
    """

    passes: tuple[tuple[float, ...], ...]
    disturbed: bool
    waited: float

    @property
    def seconds(self) -> float:
        """Of the fastest pass over all calls: what the others add is noise."""
        return min(sum(calls) for calls in self.passes)


def take_sample(embed: Embed, load: Load, *, minimum: float, patience: float) -> Sample:
    """Repeat the load for at least `minimum` seconds while nothing else works.

    A disturbed sample is taken anew while `patience` seconds last; the last one is kept and
    says so. With patience 0 the first one is kept.
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
