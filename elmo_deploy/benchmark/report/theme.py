"""The colors of a picture on light and on dark paper, and the axes that all pictures share."""

from __future__ import annotations

import io
import itertools
import math
from dataclasses import dataclass
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

WIDTH = 5.0  # inches; a picture is one panel, so that it stays readable on a phone
MARKERS = "osD^vP*X"
FEW_DECADES = 2.0  # a longer axis has one number per decade


@dataclass(frozen=True)
class Theme:
    """Colors that have enough contrast on one background."""

    ink: str
    grid: str
    systems: tuple[str, ...]
    stages: tuple[str, ...]
    faster: str
    slower: str
    unsure: str

    def system(self, number: int) -> dict[str, Any]:
        """Color and marker of a system's line, different for each system up to forty."""
        color = self.systems[number % len(self.systems)]
        return {"color": color, "marker": MARKERS[number % len(MARKERS)], "markersize": 5}


LIGHT = Theme(
    ink="#222222",
    grid="#dddddd",
    systems=("#1f77b4", "#d95f02", "#2a8f3c", "#b3202c", "#7b52ab"),
    stages=("#8da0cb", "#66c2a5", "#fc8d62", "#e0b83c", "#bdbdbd"),
    faster="#2171b5",
    slower="#d95f02",
    unsure="#b0b0b0",
)
DARK = Theme(
    ink="#e6e6e6",
    grid="#444444",
    systems=("#6db3f2", "#ff9f4a", "#6fd08c", "#ff7a7a", "#c3a2f0"),
    stages=("#8da0cb", "#66c2a5", "#fc8d62", "#e0b83c", "#8a8a8a"),
    faster="#6db3f2",
    slower="#ff9f4a",
    unsure="#7a7a7a",
)


def new_panel(height: float, title: str) -> tuple[Figure, Axes]:
    """A figure with one panel of this height in inches."""
    figure = Figure(figsize=(WIDTH, height), layout="constrained")
    panel = figure.subplots()
    panel.set_title(title, fontsize=11)
    return figure, panel


def plain_log(axis: Axis, low: float, high: float) -> None:
    """Plain numbers such as 0.5 and 2,000 on a logarithmic axis from `low` to `high`."""
    few = math.log10(high / low) <= FEW_DECADES
    axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0) if few else (1.0,), numticks=20))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.10g}"))
    axis.set_minor_locator(NullLocator())


def to_svg(figure: Figure, panel: Axes, theme: Theme) -> bytes:
    """The figure with the colors of the theme, on a transparent background."""
    handles, labels = panel.get_legend_handles_labels()
    if handles:
        columns = 1 if max(map(len, labels)) > 24 else 2
        figure.legend(
            handles, labels, loc="outside lower left", ncols=columns, frameon=False, fontsize=9,
            labelcolor=theme.ink,
        )  # fmt: skip
    panel.grid(color=theme.grid)
    panel.set_axisbelow(True)
    for spine in panel.spines.values():
        spine.set_color(theme.grid)
    texts = (panel.title, panel.xaxis.label, panel.yaxis.label)
    ticks = itertools.chain(panel.get_xticklabels(), panel.get_yticklabels())
    for text in itertools.chain(texts, ticks):
        text.set_color(theme.ink)
    panel.tick_params(color=theme.grid, labelcolor=theme.ink)
    stream = io.BytesIO()
    # Without a date and with fixed ids, the same results give the same file.
    with matplotlib.rc_context({"svg.hashsalt": "elmo-deploy"}):
        figure.savefig(stream, format="svg", metadata={"Date": None}, transparent=True)
    return stream.getvalue()
