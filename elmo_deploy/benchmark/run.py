"""The run: load every system, then give each load to each system in every round."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from elmo_deploy.benchmark.loads import Load
from elmo_deploy.benchmark.machine import describe_machine
from elmo_deploy.benchmark.report.results import Report, Row, SystemResult, rows_of_load
from elmo_deploy.benchmark.sampling import Sample
from elmo_deploy.benchmark.subject import Subject
from elmo_deploy.benchmark.system_process import Started, SystemProcess
from elmo_deploy.benchmark.systems.table import SYSTEMS
from elmo_deploy.benchmark.yardsticks import product_rate, read_rate
from elmo_runtime.bundle.manifest import Bundle
from elmo_runtime.errors import BackendError, BackendUnavailableError
from elmo_runtime.processors import usable_cpus
from elmo_runtime.text.sources import printable

MOST_PATIENCE = 5.0  # seconds that one sample may wait

Advance = Callable[[str, float, float], None]  # current work, work done, total work


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How long and how carefully to measure."""

    rounds: int = 7  # at least six are needed for significance
    minimum: float = 0.25  # seconds per sample
    patience: float = 60.0  # seconds that the run may wait for other processes


@dataclass(frozen=True)
class Job:
    """A system with its files, and its name in the report."""

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
    """Measure all jobs under all loads. The report names a system that fails, with the reason.

    The baseline is by default the first job that runs. The report adds `context` to its settings.
    Raises BackendUnavailableError if no system runs or the baseline does not.
    """
    with contextlib.ExitStack() as stack:
        processes: dict[str, SystemProcess] = {}
        started: dict[str, Started] = {}
        left_out: dict[str, str] = {}
        for number, job in enumerate(jobs):
            advance(f"loading {job.name}", number, len(jobs))
            process = SystemProcess(job.system, job.subject, loads)
            stack.enter_context(contextlib.closing(process))
            try:
                started[job.name], processes[job.name] = process.start(), process
            except BackendError as error:
                left_out[job.name] = error.what
        base = _baseline(processes, baseline, left_out)
        rates = [_rates()]
        rows = _measure(processes, started, loads, settings, base, advance)
        rates.append(_rates())
    return Report(
        machine=describe_machine() | {name: max(r[name] for r in rates) for name in rates[0]},
        settings={**asdict(settings), **(context or {})},
        baseline=base,
        entries=tuple(_result(job, started[job.name]) for job in jobs if job.name in started),
        rows=tuple(rows),
        left_out=left_out,
    )


def _rates() -> dict[str, float]:
    """The best rates of the processor, measured twice because other processes may disturb one."""
    return {
        "product_flops_per_second": product_rate(),
        "read_bytes_per_second": read_rate(usable_cpus()),
    }


def _result(job: Job, started: Started) -> SystemResult:
    return SystemResult(
        name=job.name,
        system=job.system,
        bundle=printable(job.subject.bundle.name),
        model=_model(job.subject.bundle),
        exact=SYSTEMS[job.system].exact,
        footprint=started.footprint,
    )


@functools.cache
def _model(path: Path) -> str:
    """The name of the bundle and the sizes of its model."""
    config = Bundle.open(path).config
    sizes = (
        f"{config.n_layers} layers of {config.lstm_dim:,} cells, projection {config.projection_dim}"
    )
    return f"{printable(path.name)} ({sizes})"


def _baseline(
    processes: Mapping[str, SystemProcess], wanted: str | None, left_out: Mapping[str, str]
) -> str:
    if not processes:
        reasons = "; ".join(f"{name}: {reason}" for name, reason in left_out.items())
        raise BackendUnavailableError(f"no system could be measured: {reasons}")
    name = wanted or next(iter(processes))
    if name not in processes:
        reason = left_out.get(name, "it is not among the systems")
        raise BackendUnavailableError(
            f"the baseline {name!r} cannot run: {reason}",
            hint=f"choose one of {', '.join(processes)}",
        )
    return name


def _measure(
    processes: Mapping[str, SystemProcess],
    started: Mapping[str, Started],
    loads: Sequence[Load],
    settings: Settings,
    baseline: str,
    advance: Advance,
) -> list[Row]:
    """A round gives every load to every system, so that a slow minute affects all systems."""
    samples: dict[tuple[str, int], list[Sample]] = {}
    expected = _expected_seconds(started, settings)
    done, total = 0.0, settings.rounds * sum(expected.values())
    patience = settings.patience
    for name, index in turns(settings.rounds, len(loads), list(processes)):
        advance(f"{loads[index].name}: {name}", done, total)
        sample = processes[name].sample(
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
            {name: samples[name, index] for name in processes},
            {name: process.stages(index) for name, process in processes.items()},
            baseline,
        )
    ]


def turns(rounds: int, n_loads: int, names: Sequence[str]) -> Iterator[tuple[str, int]]:
    """Yield (system, load) in the order of measurement; each round starts with another system."""
    for round_ in range(rounds):
        shift = round_ % len(names)
        for load in range(n_loads):
            for name in (*names[shift:], *names[:shift]):
                yield name, load


def _expected_seconds(
    started: Mapping[str, Started], settings: Settings
) -> dict[tuple[str, int], float]:
    """The expected seconds of one sample, from the warm-up, for an honest progress bar."""
    return {
        (name, index): max(seconds, settings.minimum)
        for name, system in started.items()
        for index, seconds in enumerate(system.first_passes)
    }
