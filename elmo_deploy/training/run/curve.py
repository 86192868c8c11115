"""The records of a run -> a plot of its perplexities."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from elmo_deploy.training.run.metrics import HeldoutMetrics, Metrics
from elmo_runtime.files.atomic import atomic_file

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def draw_curve(
    path: Path, records: Sequence[Metrics], heldout: Sequence[HeldoutMetrics], *, sampled: bool
) -> None:
    """Draw the perplexities over the steps as a PNG, on a logarithmic axis with plain numbers.

    `sampled` labels the training perplexity as that of a sampled softmax, which is lower than that
    of the full one and cannot be compared with the held-out perplexity.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.add_subplot()
    steps = [record.step for record in records]
    for direction in ("forward", "backward"):
        losses = [getattr(record, f"{direction}_loss") for record in records]
        axes.plot(
            steps, [math.exp(min(loss, 700.0)) for loss in losses], label=f"training, {direction}"
        )
    steps = [record.step for record in heldout]
    for name, label in (("", "states carried"), ("zero_state_", "from the zero state")):
        values = [getattr(record, f"{name}perplexity") for record in heldout]
        if values:
            axes.plot(steps, values, "o--", markersize=3, label=f"held-out, {label}")
    axes.set(xlabel="step", ylabel=_label(sampled=sampled, heldout=bool(heldout)), yscale="log")
    _write_plain_numbers(axes)
    axes.grid(alpha=0.3, which="both")
    axes.legend()
    with atomic_file(path) as scratch:
        figure.savefig(scratch, format="png", dpi=120)


def _label(*, sampled: bool, heldout: bool) -> str:
    """A label that fits the height of the plot; the legend names the held-out lines."""
    if heldout:
        return "perplexity (training: sampled softmax)" if sampled else "perplexity"
    return "training perplexity (sampled softmax)" if sampled else "training perplexity"


def _write_plain_numbers(axes: Axes) -> None:
    """Label the axis 50, 100, 200 instead of powers of ten, however narrow its range is."""
    from matplotlib.ticker import AutoLocator, FuncFormatter, LogLocator, NullFormatter

    low, high = axes.get_ylim()
    narrow = high / low < 5
    locator: Any = AutoLocator() if narrow else LogLocator(subs=(1, 2, 5))
    axes.yaxis.set_major_locator(locator)
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.4g}"))
    axes.yaxis.set_minor_formatter(NullFormatter())
