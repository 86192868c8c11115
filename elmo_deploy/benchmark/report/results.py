"""The results of a run, as rows for the table, the JSON file, the CSV file and the report."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from elmo_deploy.benchmark.footprint import Footprint
from elmo_deploy.benchmark.loads import Load
from elmo_deploy.benchmark.report.statistics import Latency, Ratio, speed_ratio
from elmo_deploy.benchmark.sampling import Sample
from elmo_runtime.files.atomic import atomic_file


@dataclass(frozen=True, kw_only=True)
class SystemResult:
    """A system of the run and its footprint."""

    name: str
    system: str
    bundle: str
    model: str  # name of the bundle, layers, cell and projection size
    exact: bool
    footprint: Footprint


@dataclass(frozen=True, kw_only=True)
class Row:
    """One system under one load."""

    entry: str  # name of the SystemResult
    load: str
    batch: int
    length: int | None  # None: ragged
    latency: Latency  # of a call
    tokens_per_second: float
    sentences_per_second: float
    ratio: Ratio | None  # speed against the baseline; None for the baseline itself
    rounds: tuple[float, ...]  # seconds of one pass over the load, per round
    calls: tuple[float, ...]  # seconds of every call
    disturbed: int  # rounds in which another process used the machine
    stages: Mapping[str, float]  # seconds of one pass by stage


@dataclass(frozen=True, kw_only=True)
class Report:
    """All results of a run."""

    machine: Mapping[str, Any]
    settings: Mapping[str, Any]
    baseline: str
    entries: tuple[SystemResult, ...]
    rows: tuple[Row, ...]
    left_out: Mapping[str, str] = field(default_factory=dict)  # system -> reason

    def row(self, entry: str, load: str) -> Row:
        """The row of a system under a load."""
        return next(row for row in self.rows if (row.entry, row.load) == (entry, load))

    @property
    def loads(self) -> tuple[str, ...]:
        """The names of the loads, in the given order."""
        return tuple(dict.fromkeys(row.load for row in self.rows))


def rows_of_load(
    load: Load,
    samples: Mapping[str, Sequence[Sample]],
    stages: Mapping[str, Mapping[str, float]],
    baseline: str,
) -> list[Row]:
    """One row per system for a load; each system has one sample per round."""
    rounds = {name: tuple(sample.seconds for sample in taken) for name, taken in samples.items()}
    rows = []
    for name, taken in samples.items():
        calls = tuple(seconds for sample in taken for calls in sample.passes for seconds in calls)
        typical = sorted(rounds[name])[len(rounds[name]) // 2]
        rows.append(
            Row(
                entry=name,
                load=load.name,
                batch=load.batch,
                length=load.length,
                latency=Latency.of(calls),
                tokens_per_second=load.n_tokens / typical,
                sentences_per_second=load.n_sentences / typical,
                ratio=None if name == baseline else speed_ratio(rounds[name], rounds[baseline]),
                rounds=rounds[name],
                calls=calls,
                disturbed=sum(sample.disturbed for sample in taken),
                stages=stages.get(name, {}),
            )
        )
    return rows


def describe_ratio(ratio: Ratio | None) -> str:
    """The ratio and its range for a table cell, with what keeps them from being significant."""
    if ratio is None:
        return "baseline"
    numbers = f"{ratio.median:.2f}x ({ratio.low:.2f}-{ratio.high:.2f})"
    if not ratio.enough_rounds:
        return f"{numbers}, not enough rounds to be sure"
    return numbers if ratio.is_a_difference else f"{numbers}, not significant"


def speed_cells(report: Report, load: str) -> list[dict[str, object]]:
    """One line per system for a load, with rounded values."""
    return [
        {
            "system": row.entry,
            "p50 ms": round(row.latency.p50 * 1e3, 1),
            "p90 ms": round(row.latency.p90 * 1e3, 1),
            "p99 ms": round(row.latency.p99 * 1e3, 1),
            "sentences/s": round(row.sentences_per_second, 1),
            "tokens/s": round(row.tokens_per_second),
            f"speed against {report.baseline}": describe_ratio(row.ratio),
        }
        for row in report.rows
        if row.load == load
    ]


def footprint_cells(report: Report) -> list[dict[str, object]]:
    """One line per system: loading and memory, with rounded values."""
    return [
        {
            "system": entry.name,
            "loads in s": round(entry.footprint.load_seconds, 2),
            "first vector in s": round(entry.footprint.first_vector_seconds, 2),
            "resident MB": _megabytes(entry.footprint.loaded_bytes),
            "peak MB": _megabytes(entry.footprint.peak_bytes),
            "device MB": _megabytes(entry.footprint.device_bytes),
        }
        for entry in report.entries
    ]


def as_mapping(report: Report) -> dict[str, Any]:
    """The report without the individual calls, which the percentiles summarize."""
    content = asdict(report)
    for row, cells in zip(report.rows, content["rows"], strict=True):
        del cells["calls"]
        if row.ratio is not None:
            cells["ratio"] |= {"is_a_difference": row.ratio.is_a_difference}
    return content


def write_json(report: Report, path: Path) -> None:
    """Write the JSON file atomically."""
    with atomic_file(path) as scratch:
        text = json.dumps(as_mapping(report), indent=1, ensure_ascii=False)
        scratch.write_text(text + "\n", "utf-8")


def write_csv(report: Report, path: Path) -> None:
    """One line per system and load: milliseconds, and the ratio with its significance."""
    with atomic_file(path) as scratch, scratch.open("w", newline="", encoding="utf-8") as stream:
        lines = [csv_line(report, row) for row in report.rows]
        writer = csv.DictWriter(stream, list(lines[0]))
        writer.writeheader()
        writer.writerows(lines)


def csv_line(report: Report, row: Row) -> dict[str, object]:
    """The cells of one row, by column."""
    entry = next(entry for entry in report.entries if entry.name == row.entry)
    milliseconds = {
        f"{name}_ms": round(getattr(row.latency, name) * 1e3, 3) for name in ("p50", "p90", "p99")
    }
    return {
        "system": row.entry,
        "exact": entry.exact,
        "load": row.load,
        "batch": row.batch,
        "length": row.length,
        "calls": row.latency.n,
        **milliseconds,
        "tokens_per_second": round(row.tokens_per_second, 1),
        "sentences_per_second": round(row.sentences_per_second, 2),
        "ratio": row.ratio.median if row.ratio else None,
        "ratio_low": row.ratio.low if row.ratio else None,
        "ratio_high": row.ratio.high if row.ratio else None,
        "enough_rounds": row.ratio.enough_rounds if row.ratio else None,
        "is_a_difference": row.ratio.is_a_difference if row.ratio else None,
        "disturbed_rounds": row.disturbed,
        "load_seconds": round(entry.footprint.load_seconds, 3),
        "first_vector_seconds": round(entry.footprint.first_vector_seconds, 3),
        "peak_bytes": entry.footprint.peak_bytes,
        "device_bytes": entry.footprint.device_bytes,
    }


def _megabytes(count: int | None) -> int | str:
    return "" if count is None else round(count / 1e6)
