"""Rows of a report -> SVG pictures. Needs matplotlib, and no display."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from elmo_deploy.benchmark.report.results import Report, Row
from elmo_deploy.benchmark.systems.table import STAGES

WIDTH, HEIGHT = 5.2, 3.6  # inches of one panel
STAGE_COLORS = dict(zip(STAGES, ("#8da0cb", "#66c2a5", "#fc8d62", "#bdbdbd"), strict=True))


def draw_all(report: Report) -> dict[str, bytes]:
    """Title -> SVG, without plots that have no points."""
    pictures = {}
    if any(row.length is not None for row in report.rows):
        pictures["Latency against batch"] = against_batch(
            report, "milliseconds per call, p50", lambda row: row.latency.p50 * 1e3
        )
        pictures["Throughput against batch"] = against_batch(
            report, "tokens per second", lambda row: row.tokens_per_second
        )
    pictures["Distribution of latency"] = distribution(report)
    pictures["Share of time by stage"] = shares(report)
    return pictures


def against_batch(report: Report, axis: str, value: Callable[[Row], float]) -> bytes:
    """One panel per length of the grid, one line per system."""
    lengths = sorted({row.length for row in report.rows if row.length is not None})
    figure, panels = _panels(len(lengths))
    for panel, length in zip(panels, lengths, strict=True):
        for name, rows in _by_system(report, (row for row in report.rows if row.length == length)):
            rows.sort(key=lambda row: row.batch)
            panel.plot(
                [row.batch for row in rows], [value(row) for row in rows], marker="o", label=name
            )
        panel.set(title=f"{length} tokens", xlabel="sentences per batch", ylabel=axis)
        panel.set_xscale("log", base=2)
        panel.set_yscale("log")
        panel.xaxis.set_major_formatter("{x:.0f}")
    return _svg(figure, panels)


def distribution(report: Report) -> bytes:
    """One panel per load: the cumulative distribution of the time of a call."""
    figure, panels = _panels(len(report.loads))
    for panel, load in zip(panels, report.loads, strict=True):
        for name, rows in _by_system(report, (row for row in report.rows if row.load == load)):
            milliseconds = np.sort(np.concatenate([row.calls for row in rows])) * 1e3
            share = np.arange(1, len(milliseconds) + 1) / len(milliseconds)
            panel.step(milliseconds, share, where="post", label=name)
        panel.set(
            title=load, xlabel="milliseconds per call", ylabel="share of calls", ylim=(0, 1.02)
        )
        panel.set_xscale("log")
    return _svg(figure, panels)


def shares(report: Report) -> bytes:
    """One panel per load, one bar per system: the share of each stage."""
    figure, panels = _panels(len(report.loads))
    for panel, load in zip(panels, report.loads, strict=True):
        rows = [row for row in report.rows if row.load == load and sum(row.stages.values()) > 0]
        left = np.zeros(len(rows))
        for stage in STAGES:
            share = np.array([_share(row.stages, stage) for row in rows])
            names = [row.entry for row in rows]
            panel.barh(names, share, left=left, label=stage, color=STAGE_COLORS[stage])
            left += share
        panel.set(title=load, xlabel="share of the time of a call", xlim=(0, 1))
        panel.invert_yaxis()
    return _svg(figure, panels)


def _by_system(report: Report, rows: Iterable[Row]) -> Iterator[tuple[str, list[Row]]]:
    rows = list(rows)
    for entry in report.entries:
        yield entry.name, [row for row in rows if row.entry == entry.name]


def _share(stages: Mapping[str, float], stage: str) -> float:
    return stages.get(stage, 0.0) / sum(stages.values())


def _panels(count: int) -> tuple[Figure, Sequence[Axes]]:
    columns = min(count, 3)
    rows = -(-count // columns)
    figure = Figure(figsize=(WIDTH * columns, HEIGHT * rows), layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False).ravel().tolist()
    for unused in panels[count:]:
        unused.remove()
    return figure, panels[:count]


def _svg(figure: Figure, panels: Sequence[Axes]) -> bytes:
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=3, frameon=False)
    for panel in panels:
        panel.grid(alpha=0.3)
    stream = io.BytesIO()
    # Without a date and with fixed ids, the same results give the same file.
    with matplotlib.rc_context({"svg.hashsalt": "elmo-deploy"}):
        figure.savefig(stream, format="svg", metadata={"Date": None})
    return stream.getvalue()
