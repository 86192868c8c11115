"""What a reader wants first: where a report was measured, its result and how quiet it was."""

from __future__ import annotations

from collections.abc import Sequence

from elmo_deploy.benchmark.report.results import Report, Row
from elmo_deploy.benchmark.report.statistics import Ratio
from elmo_deploy.benchmark.systems.table import SYSTEMS


def machine_line(report: Report) -> str:
    """Processor, cores, instructions, versions and models in one line."""
    machine = report.machine
    versions = ", ".join(f"{name} {number}" for name, number in machine["versions"].items())
    instructions = ", ".join(machine["instructions"])
    cores = f"{machine['cores']} cores" + (f" ({instructions})" if instructions else "")
    models = ", ".join(dict.fromkeys(entry.model for entry in report.entries))
    return " · ".join([machine["processor"], cores, machine["system"], versions, models])


def headline(report: Report) -> str:
    """The speed of the fastest ELMo on ragged batches, or on the last load, in one sentence."""
    ragged = [row.load for row in report.rows if row.length is None]
    load = (ragged or report.loads)[0 if ragged else -1]
    rows = [row for row in report.rows if row.load == load]
    best = _fastest_elmo(report, rows)
    if best is None or best.ratio is None:
        only = report.row(report.baseline, load)
        speed = f"{only.tokens_per_second:,.0f} tokens per second"
        return f"{only.entry} computes {speed} {_batches(only)}."
    return f"{best.entry} is {_times(best.ratio, report.baseline)} {_batches(best)}{_note(best)}."


def disturbance(report: Report) -> str:
    """How many samples other processes disturbed; empty if none."""
    disturbed = sum(row.disturbed for row in report.rows)
    if not disturbed:
        return ""
    samples = sum(len(row.rounds) for row in report.rows)
    return (
        f"The machine was noisy: other processes worked during {disturbed} of {samples} samples,"
        " so rates are lower than on a quiet machine and ranges are wider."
    )


def _fastest_elmo(report: Report, rows: Sequence[Row]) -> Row | None:
    """The row with the largest ratio; one that is significant is preferred."""
    elmo = {entry.name for entry in report.entries if SYSTEMS[entry.system].is_elmo}
    others = [row for row in rows if row.ratio is not None and row.entry in elmo]

    def rank(row: Row) -> tuple[bool, float]:
        assert row.ratio is not None
        return row.ratio.is_a_difference, row.ratio.median

    return max(others, key=rank, default=None)


def _times(ratio: Ratio, baseline: str) -> str:
    return f"{ratio.median:.1f}x as fast as {baseline} ({ratio.low:.1f}-{ratio.high:.1f})"


def _batches(row: Row) -> str:
    sentences = "one sentence" if row.batch == 1 else f"batches of {row.batch} sentences"
    return f"on {'ragged ' * (row.length is None)}{sentences}" + (
        "" if row.length is None else f" of {row.length} tokens"
    )


def _note(row: Row) -> str:
    assert row.ratio is not None
    if not row.ratio.enough_rounds:
        return f"; {len(row.rounds)} rounds are not enough to be sure"
    return "" if row.ratio.is_a_difference else "; the difference is not significant"
