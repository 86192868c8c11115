"""Rows of a report -> SVG pictures with one panel each. Needs matplotlib, and no display."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np

from elmo_deploy.benchmark.report.results import Report, Row
from elmo_deploy.benchmark.report.theme import DARK, LIGHT, Theme, new_panel, plain_log, to_svg
from elmo_deploy.benchmark.systems.table import STAGES

HEIGHT = 3.6  # inches of a panel with lines
BAR, AROUND_BARS = 0.34, 1.1  # inches per bar, and of the title, the axis and the legend
ROOM_FOR_NUMBERS = 12.0  # the axis of ratios ends at this multiple of the largest


@dataclass(frozen=True)
class Picture:
    """One panel, on light and on dark paper."""

    title: str
    light: bytes
    dark: bytes


def _picture(title: str, draw: Callable[[Theme], bytes]) -> Picture:
    return Picture(title, draw(LIGHT), draw(DARK))


def ratio_pictures(report: Report) -> list[Picture]:
    """One per load: the speed of every system relative to the baseline."""
    return [
        _picture(load, partial(_ratios, report, load))
        for load in report.loads
        if _ratio_rows(report, load)
    ]


def latency_pictures(report: Report) -> list[Picture]:
    """One per length of the grid: time against batch; one per load: the distribution."""
    typical = _per_length(report, "milliseconds per call", lambda row: row.latency.p50 * 1e3)
    spread = [
        _picture(f"all calls, {load}", partial(_distribution, report, load))
        for load in report.loads
    ]
    return typical + spread


def throughput_pictures(report: Report) -> list[Picture]:
    """One per length of the grid: tokens per second against batch."""
    return _per_length(report, "tokens per second", lambda row: row.tokens_per_second)


def stage_pictures(report: Report) -> list[Picture]:
    """One per load: the share of every stage in the time of a call."""
    return [
        _picture(load, partial(_stages, report, load))
        for load in report.loads
        if any(row.load == load and sum(row.stages.values()) > 0 for row in report.rows)
    ]


def footprint_pictures(report: Report) -> list[Picture]:
    """Seconds until the first vector, and the highest resident memory."""
    seconds = {entry.name: entry.footprint.first_vector_seconds for entry in report.entries}
    memory = {
        entry.name: entry.footprint.peak_bytes / 1e6
        for entry in report.entries
        if entry.footprint.peak_bytes is not None
    }
    panels = [
        ("loading", seconds, "seconds until the first vector"),
        ("memory", memory, "highest resident memory in megabytes"),
    ]
    return [
        _picture(title, partial(_bars, title, values, unit))
        for title, values, unit in panels
        if values
    ]


def _ratio_rows(report: Report, load: str) -> list[Row]:
    return [row for row in report.rows if row.load == load and row.ratio is not None]


def _ratios(report: Report, load: str, theme: Theme) -> bytes:
    """Bars that start at 1, with the range as a whisker and the numbers after it."""
    rows = _ratio_rows(report, load)
    figure, panel = new_panel(AROUND_BARS + BAR * len(rows), load)
    ratios = [row.ratio for row in rows if row.ratio is not None]
    for place, ratio in enumerate(ratios):
        color = theme.faster if ratio.median > 1 else theme.slower
        panel.barh(
            place,
            ratio.median - 1,
            left=1,
            height=0.7,
            color=color if ratio.is_a_difference else theme.unsure,
        )
        panel.plot([ratio.low, ratio.high], [place, place], color=theme.ink, linewidth=1)
        panel.annotate(
            f"{ratio.median:.2f}x ({ratio.low:.2f}-{ratio.high:.2f})",
            (max(ratio.high, 1.0), place),
            xytext=(5, 0),
            textcoords="offset points",
            va="center",
            fontsize=9,
            color=theme.ink,
        )
    low = min(0.8, *(ratio.low for ratio in ratios)) if ratios else 0.8
    high = ROOM_FOR_NUMBERS * max(1.0, *(ratio.high for ratio in ratios), 0.0)
    panel.axvline(1, color=theme.ink, linewidth=1)
    panel.set_yticks(range(len(rows)), [row.entry for row in rows])
    panel.set_xscale("log")
    panel.set_xlim(low * 0.9, high)
    plain_log(panel.xaxis, low, high)
    panel.set_xlabel(f"times the speed of {report.baseline}")
    panel.invert_yaxis()
    return to_svg(figure, panel, theme)


def _per_length(report: Report, unit: str, value: Callable[[Row], float]) -> list[Picture]:
    lengths = sorted({row.length for row in report.rows if row.length is not None})
    return [
        _picture(
            f"sentences of {length} tokens", partial(_against_batch, report, length, unit, value)
        )
        for length in lengths
    ]


def _against_batch(
    report: Report, length: int, unit: str, value: Callable[[Row], float], theme: Theme
) -> bytes:
    """One line per system: a value against the number of sentences."""
    rows = [row for row in report.rows if row.length == length]
    figure, panel = new_panel(_height_with_legend(report), f"sentences of {length} tokens")
    for number, (name, own) in enumerate(_by_system(report, rows)):
        own.sort(key=lambda row: row.batch)
        panel.plot(
            [row.batch for row in own],
            [value(row) for row in own],
            label=name,
            **theme.system(number),
        )
    batches = sorted({row.batch for row in rows})
    panel.set(xlabel="sentences per batch", ylabel=unit, xscale="log", yscale="log")
    panel.minorticks_off()
    panel.set_xticks(batches, [str(batch) for batch in batches])
    plain_log(panel.yaxis, min(map(value, rows)), max(map(value, rows)))
    return to_svg(figure, panel, theme)


def _distribution(report: Report, load: str, theme: Theme) -> bytes:
    """One line per system: the cumulative distribution of the time of a call."""
    rows = [row for row in report.rows if row.load == load]
    figure, panel = new_panel(_height_with_legend(report), f"all calls, {load}")
    for number, (name, own) in enumerate(_by_system(report, rows)):
        milliseconds = np.sort(np.concatenate([row.calls for row in own])) * 1e3
        share = np.arange(1, len(milliseconds) + 1) / len(milliseconds) * 100
        line = theme.system(number) | {"markevery": [len(share) // 2]}
        panel.step(milliseconds, share, where="post", label=name, **line)
    panel.set(xlabel="milliseconds per call", ylabel="percent of calls", ylim=(0, 102))
    panel.set_xscale("log")
    calls = [seconds * 1e3 for row in rows for seconds in row.calls]
    plain_log(panel.xaxis, min(calls), max(calls))
    return to_svg(figure, panel, theme)


def _stages(report: Report, load: str, theme: Theme) -> bytes:
    """One bar per system: the share of each stage."""
    rows = [row for row in report.rows if row.load == load and sum(row.stages.values()) > 0]
    figure, panel = new_panel(AROUND_BARS + 0.5 + BAR * len(rows), load)
    names = [row.entry for row in rows]
    left = np.zeros(len(rows))
    for stage, color in zip(STAGES, theme.stages, strict=True):
        share = np.array([_percent(row.stages, stage) for row in rows])
        if share.any():
            panel.barh(names, share, left=left, height=0.7, label=stage, color=color)
        left += share
    panel.set(xlabel="percent of the time of a call", xlim=(0, 100))
    panel.invert_yaxis()
    return to_svg(figure, panel, theme)


def _bars(title: str, values: Mapping[str, float], unit: str, theme: Theme) -> bytes:
    """One bar per system, with its number."""
    figure, panel = new_panel(AROUND_BARS + BAR * len(values), title)
    bars = panel.barh(list(values), list(values.values()), height=0.7, color=theme.faster)
    numbers = [f"{value:,.0f}" if value >= 100 else f"{value:.2g}" for value in values.values()]
    panel.bar_label(bars, numbers, padding=4, fontsize=9, color=theme.ink)
    panel.set(xlabel=unit, xlim=(0, 1.2 * max(values.values())))
    panel.invert_yaxis()
    return to_svg(figure, panel, theme)


def _height_with_legend(report: Report) -> float:
    """Inches of a panel with lines; the legend takes a line per two systems."""
    return HEIGHT + 0.2 * -(-len(report.entries) // 2)


def _by_system(report: Report, rows: Iterable[Row]) -> Iterator[tuple[str, list[Row]]]:
    rows = list(rows)
    for entry in report.entries:
        yield entry.name, [row for row in rows if row.entry == entry.name]


def _percent(stages: Mapping[str, float], stage: str) -> float:
    return 100 * stages.get(stage, 0.0) / sum(stages.values())
