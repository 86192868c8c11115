"""`elmo-deploy benchmark`: compare backends and precisions in one run."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from elmo_deploy.cli._options.bundles import bundle_path

if TYPE_CHECKING:
    from elmo_deploy.benchmark.loads import Load
    from elmo_deploy.benchmark.report.results import Report
    from elmo_deploy.benchmark.run import Advance, Job


def benchmark(
    bundles: Annotated[
        list[Path],
        typer.Argument(metavar="BUNDLE", help="One or more bundle directories, or english-small."),
    ],
    system: Annotated[
        list[str] | None,
        typer.Option(
            help="What to measure, e.g. native-int8; may be repeated. An unknown name lists all.",
            show_default="everything that runs here",
        ),
    ] = None,
    baseline: Annotated[
        str | None,
        typer.Option(help="The system to compare the others with.", show_default="the first"),
    ] = None,
    checkpoint: Annotated[
        Path | None,
        typer.Option(
            help="Weights for the torch systems; random weights take the same time.",
            show_default="random weights",
        ),
    ] = None,
    batch: Annotated[
        list[int] | None,
        typer.Option(help="Sentences per batch; may be repeated.", show_default="1, 8, 32"),
    ] = None,
    length: Annotated[
        list[int] | None,
        typer.Option(help="Tokens per sentence; may be repeated.", show_default="8, 25"),
    ] = None,
    ragged: Annotated[
        int, typer.Option(help="Sentences in a batch of mixed lengths; 0 omits it.")
    ] = 32,
    text: Annotated[
        Path | None,
        typer.Option(
            help="A text file with one sentence per line, to draw words and lengths from.",
            show_default="random words and lengths",
        ),
    ] = None,
    threads: Annotated[int | None, typer.Option(help="CPU threads per system.")] = None,
    rounds: Annotated[
        int,
        typer.Option(min=1, help="Rounds per system; at least 6 are needed for significance."),
    ] = 7,
    seconds: Annotated[
        float, typer.Option(help="Minimum time per measurement, in seconds.")
    ] = 0.25,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="Directory for benchmark.json, .csv and .html."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the results as JSON.")] = False,
) -> None:
    """Measure latency, throughput, load time and memory of several systems in one run.

    Every ratio is reported with its range, and with a note if it is not significant.
    """
    if out is not None:
        import elmo_deploy.benchmark.report.html  # noqa: F401 # A missing matplotlib is reported now.
    from elmo_deploy.benchmark.report.results import as_mapping
    from elmo_deploy.benchmark.run import Settings
    from elmo_deploy.benchmark.run import benchmark as run
    from elmo_deploy.cli._terminal.console import print_json
    from elmo_runtime.text.sources import printable

    bundles = [bundle_path(bundle) for bundle in bundles]
    jobs = _jobs(bundles, system, checkpoint, threads)
    loads = _loads(text, batch or [1, 8, 32], length or [8, 25], ragged)
    with _progress() as advance:
        report = run(
            jobs,
            loads,
            settings=Settings(rounds=rounds, minimum=seconds),
            baseline=baseline,
            advance=advance,
            context={
                "bundles": [printable(str(bundle)) for bundle in bundles],
                "torch weights": printable(str(checkpoint)) if checkpoint else "random",
                "text": printable(str(text)) if text else "random words and lengths",
                "threads": threads,
            },
        )
    if out is not None:
        _write(report, out)
    if as_json:
        print_json(as_mapping(report))
    else:
        _print(report, out)


def _jobs(
    bundles: Sequence[Path],
    systems: Sequence[str] | None,
    checkpoint: Path | None,
    threads: int | None,
) -> list[Job]:
    """Every system on every bundle. Names include the bundle if there are several."""
    from elmo_deploy.benchmark.run import Job
    from elmo_deploy.benchmark.subject import Subject
    from elmo_deploy.benchmark.systems.table import SYSTEMS
    from elmo_runtime.errors import InputError
    from elmo_runtime.text.sources import printable

    unknown = sorted(set(systems or ()) - set(SYSTEMS))
    if unknown:
        raise InputError(f"there is no system {unknown[0]!r}", hint=f"use {', '.join(SYSTEMS)}")
    return [
        Job(
            name if len(bundles) == 1 else f"{printable(bundle.name)}: {name}",
            name,
            Subject(bundle, checkpoint, threads),
        )
        for bundle in bundles
        for name in systems or SYSTEMS
    ]


def _loads(
    text: Path | None, batches: Sequence[int], lengths: Sequence[int], ragged: int
) -> list[Load]:
    from elmo_deploy.benchmark.loads import standard_loads

    return standard_loads(text, batches=batches, lengths=lengths, ragged=ragged)


def _write(report: Report, folder: Path) -> None:
    from elmo_deploy.benchmark.report.html import write_html
    from elmo_deploy.benchmark.report.results import write_csv, write_json

    write_json(report, folder / "benchmark.json")
    write_csv(report, folder / "benchmark.csv")
    write_html(report, folder / "benchmark.html")


def _print(report: Report, out: Path | None) -> None:
    from elmo_deploy.benchmark.report.results import footprint_cells, speed_cells
    from elmo_deploy.cli._terminal.console import stdout, table

    console = stdout()
    tables = {load: speed_cells(report, load) for load in report.loads}
    for title, lines in {**tables, "loading and memory": footprint_cells(report)}.items():
        console.print(table(title, list(lines[0]), [list(line.values()) for line in lines]))
    for name, reason in report.left_out.items():
        console.print(f"not measured: {name}: {reason}", markup=False)
    if out is not None:
        console.print(f"written to {out}: benchmark.json, .csv and .html", markup=False)


@contextmanager
def _progress() -> Iterator[Advance]:
    """A bar on stderr with the remaining time."""
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    from elmo_deploy.cli._terminal.console import stderr

    columns = (TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn())
    with Progress(*columns, console=stderr(), transient=True) as bar:
        task = bar.add_task("starting", total=None)

        def advance(what: str, done: float, total: float) -> None:
            bar.update(task, description=what, completed=done, total=total)

        yield advance
