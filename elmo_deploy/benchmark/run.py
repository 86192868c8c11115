"""The run: load every system, then give each load to each system in turn, round after round."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from elmo_deploy.benchmark.loads import Load
from elmo_deploy.benchmark.machine import describe_machine
from elmo_deploy.benchmark.report.results import Entry, Report, Row, rows_of_load
from elmo_deploy.benchmark.sampling import Sample
from elmo_deploy.benchmark.subject import Subject
from elmo_deploy.benchmark.systems.table import SYSTEMS
from elmo_deploy.benchmark.worker import Started, Worker
from elmo_deploy.benchmark.yardsticks import product_rate, read_rate
from elmo_runtime.errors import BackendError, BackendUnavailableError
from elmo_runtime.processors import usable_cpus
from elmo_runtime.text.sources import printable

MOST_PATIENCE = 5.0  # seconds that one sample may wait

Advance = Callable[[str, float, float], None]  # what runs now, work done, and work in all


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How long and how carefully to measure."""

    rounds: int = 7  # six are the fewest that can tell a difference from chance
    minimum: float = 0.25  # seconds a sample lasts at least
    patience: float = 60.0  # seconds that the whole run may wait for other processes to rest


@dataclass(frozen=True)
class Job:
    """A system, and the files it is measured on; its name in the report."""

    name: str
    system: str
    subject: Subject


def benchmark(
    jobs: Sequence[Job],
    loads: Sequence[Load],
    *,
    settings: Settings,
    baseline: str | None = None,
    advance: Advance = lambda what, done, total: None,
    context: Mapping[str, Any] | None = None,
) -> Report:
    """Measure all jobs under all loads. A system that fails is left out, with its reason.

    baseline None: the first job that runs. `context` is added to the settings in the report.
    Raises BackendUnavailableError when no system runs, or the baseline does not.
    """
    with contextlib.ExitStack() as stack:
        workers: dict[str, Worker] = {}
        started: dict[str, Started] = {}
        left_out: dict[str, str] = {}
        for number, job in enumerate(jobs):
            advance(f"loading {job.name}", number, len(jobs))
            worker = stack.enter_context(contextlib.closing(Worker(job.system, job.subject, loads)))
            try:
                started[job.name], workers[job.name] = worker.start(), worker
            except BackendError as error:
                left_out[job.name] = error.what
        base = _baseline(workers, baseline, left_out)
        rates = [_rates()]
        rows = _measure(workers, started, loads, settings, base, advance)
        rates.append(_rates())
    return Report(
        machine=describe_machine() | {name: max(r[name] for r in rates) for name in rates[0]},
        settings={**asdict(settings), **(context or {})},
        baseline=base,
        entries=tuple(_entry(job, started[job.name]) for job in jobs if job.name in started),
        rows=tuple(rows),
        left_out=left_out,
    )


def _rates() -> dict[str, float]:
    """What the processor can do at best; taken before and after, for others may work meanwhile."""
    return {
        "product_flops_per_second": product_rate(),
        "read_bytes_per_second": read_rate(usable_cpus()),
    }


def _entry(job: Job, started: Started) -> Entry:
    return Entry(
        name=job.name,
        system=job.system,
        bundle=printable(job.subject.bundle.name),
        exact=SYSTEMS[job.system].exact,
        footprint=started.footprint,
    )


def _baseline(
    workers: Mapping[str, Worker], wanted: str | None, left_out: Mapping[str, str]
) -> str:
    if not workers:
        reasons = "; ".join(f"{name}: {reason}" for name, reason in left_out.items())
        raise BackendUnavailableError(f"no system could be measured: {reasons}")
    name = wanted or next(iter(workers))
    if name not in workers:
        reason = left_out.get(name, "it is not among the systems")
        raise BackendUnavailableError(
            f"the baseline {name!r} cannot run: {reason}", hint=f"choose of {', '.join(workers)}"
        )
    return name


def _measure(
    workers: Mapping[str, Worker],
    started: Mapping[str, Started],
    loads: Sequence[Load],
    settings: Settings,
    baseline: str,
    advance: Advance,
) -> list[Row]:
    """Interleaved: a round gives every load to every system, so that slow minutes hit all."""
    samples: dict[tuple[str, int], list[Sample]] = {}
    expected = _expected_seconds(started, settings)
    done, total = 0.0, settings.rounds * sum(expected.values())
    patience = settings.patience
    for name, index in turns(settings.rounds, len(loads), list(workers)):
        advance(f"{loads[index].name}: {name}", done, total)
        sample = workers[name].sample(
            index, minimum=settings.minimum, patience=min(patience, MOST_PATIENCE)
        )
        samples.setdefault((name, index), []).append(sample)
        patience -= sample.waited
        done += expected[name, index]
    return [
        row
        for index, load in enumerate(loads)
        for row in rows_of_load(
            load,
            {name: samples[name, index] for name in workers},
            {name: worker.stages(index) for name, worker in workers.items()},
            baseline,
        )
    ]


def turns(rounds: int, n_loads: int, names: Sequence[str]) -> Iterator[tuple[str, int]]:
    """(system, load) in the order of measuring; each round another system begins."""
    for round_ in range(rounds):
        shift = round_ % len(names)
        for load in range(n_loads):
            for name in (*names[shift:], *names[:shift]):
                yield name, load


def _expected_seconds(
    started: Mapping[str, Started], settings: Settings
) -> dict[tuple[str, int], float]:
    """What one sample will take, from the warm-up: so that the time left is told truly."""
    return {
        (name, index): max(seconds, settings.minimum)
        for name, system in started.items()
        for index, seconds in enumerate(system.first_passes)
    }
