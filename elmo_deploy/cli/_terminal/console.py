"""Consoles of the commands: results go to stdout, everything else to stderr.

Text is printed verbatim, because a path such as bundle[v2] is not markup. rich.Text adds styles.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

SKIPPED_SHOWN = 20
WIDTH_OF_A_PIPE = 120  # Without a terminal, rich folds tables to 80 columns.


def stdout() -> Console:
    """A console for the result of a command."""
    return Console(
        width=None if sys.stdout.isatty() else WIDTH_OF_A_PIPE, highlight=False, markup=False
    )


def stderr() -> Console:
    """A console for progress, notes and warnings."""
    return Console(
        stderr=True,
        width=None if sys.stderr.isatty() else WIDTH_OF_A_PIPE,
        highlight=False,
        markup=False,
    )


def print_json(answer: Mapping[str, Any]) -> None:
    """Print a result for programs: one JSON object on stdout and nothing else."""
    text = json.dumps(answer, indent=2, ensure_ascii=False)
    try:
        text.encode(getattr(sys.stdout, "encoding", None) or "utf-8")
    except UnicodeEncodeError:  # The stream is ASCII, or a file name is not UTF-8.
        text = json.dumps(answer, indent=2)
    print(text)


def report_skipped(lines: Sequence[str]) -> None:
    """Print the first 20 skipped input lines and the number of the others."""
    for line in lines[:SKIPPED_SHOWN]:
        stderr().print(f"skipped {line}")
    if len(lines) > SKIPPED_SHOWN:
        stderr().print(f"skipped {counted(len(lines) - SKIPPED_SHOWN, 'more line')}")


def report_cut(tokens: int, room: int) -> None:
    """Print how many tokens were longer than the model reads, if any."""
    if tokens:
        stderr().print(
            f"warning: {tokens:,} token{'s are' if tokens > 1 else ' is'} longer than {room} bytes"
            " of UTF-8; the model reads only the beginning"
        )


def table(title: str, columns: Iterable[str], rows: Sequence[Sequence[object]]) -> Table:
    """A table with numbers aligned to the right."""
    drawn = Table(title=title, title_justify="left", title_style="bold", header_style="bold")
    for index, column in enumerate(columns):
        numeric = bool(rows) and all(isinstance(row[index], int | float) for row in rows)
        drawn.add_column(column, justify="right" if numeric else "left", overflow="fold")
    for row in rows:
        drawn.add_row(*(cell if isinstance(cell, Text) else str(cell) for cell in row))
    return drawn


def counted(count: int, noun: str) -> str:
    """A number with its noun: 1 sentence, 2,000 sentences."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def size(count: float) -> str:
    """A number of bytes for people: 54.4 MB."""
    for unit in ("B", "kB", "MB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.2f} GB"
