"""One panel per word: every sentence is a dot, colored by the sense that a person assigned."""

from __future__ import annotations

from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from senses import Example, Vectors, on_a_plane

matplotlib.use("Agg")
from matplotlib import pyplot as plt

COLORS = ("#1f6f8b", "#d9722e", "#7a5195")  # color-blind readers can distinguish them
INK, GRAY, PAPER, FRAME = "#2b2b2b", "#6b6b6b", "#fbfaf7", "#dcd8cf"
HALF_WIDTH, HALF_HEIGHT = 3.7, 1.3  # of a panel; the dots fill -1..1
COLUMN, LINE = 1.22, 0.2  # where the labels begin, and the smallest distance between two of them
COLUMNS = 2


def draw(
    examples: list[Example], vectors: Vectors, target: Path, *, title: str, subtitle: str
) -> None:
    """Write the picture of all words to the PNG file `target`."""
    words = list(dict.fromkeys(example.word for example in examples))
    rows = -(-len(words) // COLUMNS)
    figure, panels = plt.subplots(rows, COLUMNS, figsize=(8.4 * COLUMNS, 4.4 * rows + 1))
    figure.set_facecolor(PAPER)
    for panel in panels.flat[len(words) :]:
        panel.axis("off")
    for panel, word in zip(panels.flat, words, strict=False):
        own = [index for index, example in enumerate(examples) if example.word == word]
        _draw_word(panel, [examples[index] for index in own], on_a_plane(vectors[own]))
    figure.tight_layout(rect=(0.01, 0.01, 0.99, 0.92), h_pad=2.4, w_pad=2)
    figure.text(0.02, 0.982, title, va="top", fontsize=25, fontweight="bold", color=INK)
    figure.text(0.02, 0.947, subtitle, va="top", fontsize=13, color=GRAY, linespacing=1.5)
    figure.savefig(target, dpi=100)
    plt.close(figure)


def _draw_word(panel: Axes, examples: list[Example], plane: Vectors) -> None:
    points = plane - (plane.max(axis=0) + plane.min(axis=0)) / 2
    points = points / np.abs(points).max(axis=0)
    senses = list(dict.fromkeys(example.sense for example in examples))
    colors = [COLORS[senses.index(example.sense)] for example in examples]
    panel.set(xlim=(-HALF_WIDTH, HALF_WIDTH), ylim=(-HALF_HEIGHT, HALF_HEIGHT))
    panel.set(xticks=[], yticks=[], facecolor="white")
    for spine in panel.spines.values():
        spine.set_color(FRAME)
    places = _label_places(points)
    for example, point, (x, y), color in zip(examples, points, places, colors, strict=True):
        panel.plot([point[0], x], [point[1], y], color=color, alpha=0.4, linewidth=0.8)
        _write_label(panel, example, x, y)
    panel.scatter(*points.T, s=95, c=colors, edgecolors="white", linewidths=1.2, zorder=3)
    _write_title(panel, examples[0].word, senses)


def _label_places(points: Vectors) -> list[tuple[float, float]]:
    """The labels of the left half form a column on the left, the others one on the right."""
    places = [(0.0, 0.0)] * len(points)
    left = points[:, 0] < 0
    for column, x in ((np.flatnonzero(left), -COLUMN), (np.flatnonzero(~left), COLUMN)):
        ordered = column[np.argsort(points[column, 1], kind="stable")]
        for index, y in zip(ordered, _spread(points[ordered, 1].tolist()), strict=True):
            places[index] = (x, y)
    return places


def _spread(heights: list[float]) -> list[float]:
    """Move rising heights apart until they are one line apart and inside the panel."""
    for index in range(1, len(heights)):
        heights[index] = max(heights[index], heights[index - 1] + LINE)
    ceiling = HALF_HEIGHT - LINE / 2
    for index in reversed(range(len(heights))):
        heights[index] = min(heights[index], ceiling)
        ceiling = heights[index] - LINE
    return heights


def _write_label(panel: Axes, example: Example, x: float, y: float) -> None:
    before, after = example.snippet(longest=14)
    side, gap = ("right", -0.04) if x < 0 else ("left", 0.04)
    panel.text(
        x + gap, y, rf"{before} $\bf{{{example.word}}}$ {after}".strip(),
        ha=side, va="center", fontsize=9.5, color=INK, in_layout=False,
    )  # fmt: skip


def _write_title(panel: Axes, word: str, senses: list[str]) -> None:
    panel.set_title(word, loc="left", fontsize=17, fontweight="bold", color=INK, pad=9)
    dots = [panel.scatter([], [], s=70, c=color) for color in COLORS[: len(senses)]]
    panel.legend(
        dots, senses, ncols=len(senses), loc="lower right", bbox_to_anchor=(1.01, 0.99),
        frameon=False, fontsize=12.5, handletextpad=0.1, columnspacing=1.2, labelcolor=COLORS,
    )  # fmt: skip
