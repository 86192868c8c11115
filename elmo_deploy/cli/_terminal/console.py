"""What the verbs print with: results on stdout, everything else on stderr.

Text is printed as it is: a path like bundle[v2] is no markup. Styles are given by rich's Text.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

SKIPPED_TOLD = 20
WIDTH_OF_A_PIPE = 120  # rich would fold tables to 80 columns where there is no terminal


def stdout() -> Console:
    """A console for the answer of a verb."""
    return Console(
        width=None if sys.stdout.isatty() else WIDTH_OF_A_PIPE, highlight=False, markup=False
    )


def stderr() -> Console:
    """A console for progress and remarks."""
    return Console(
        stderr=True,
        width=None if sys.stderr.isatty() else WIDTH_OF_A_PIPE,
        highlight=False,
        markup=False,
    )


def print_json(answer: Mapping[str, Any]) -> None:
    """Print the answer for programs: one JSON object on stdout and nothing else."""
    text = json.dumps(answer, indent=2, ensure_ascii=False)
    try:
        text.encode(getattr(sys.stdout, "encoding", None) or "utf-8")
    except UnicodeEncodeError:  # an ASCII stream, or a file name that is not UTF-8
        text = json.dumps(answer, indent=2)
    print(text)


def tell_skipped(lines: Sequence[str]) -> None:
    """Name the input lines that gave no vectors, the first ones at least."""
    for line in lines[:SKIPPED_TOLD]:
        stderr().print(f"skipped {line}")
    if len(lines) > SKIPPED_TOLD:
        stderr().print(f"skipped {len(lines) - SKIPPED_TOLD} more lines")


def report_cut(tokens: int, room: int) -> None:
    """Say how many tokens were longer than the model reads, if there were any."""
    if tokens:
        stderr().print(
            f"warning: {tokens:,} token{'s are' if tokens > 1 else ' is'} longer than {room} bytes"
            " of UTF-8; the model reads only the beginning"
        )


def table(title: str, columns: Iterable[str], rows: Sequence[Sequence[object]]) -> Table:
    """A table whose numbers are aligned to the right."""
    drawn = Table(title=title, title_justify="left", title_style="bold", header_style="bold")
    for index, column in enumerate(columns):
        numeric = bool(rows) and all(isinstance(row[index], int | float) for row in rows)
        drawn.add_column(column, justify="right" if numeric else "left", overflow="fold")
    for row in rows:
        drawn.add_row(*(cell if isinstance(cell, Text) else str(cell) for cell in row))
    return drawn


def size(count: float) -> str:
    """A number of bytes as a person reads it: 54.4 MB."""
    for unit in ("B", "kB", "MB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.2f} GB"
