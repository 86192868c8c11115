"""Output of `export` and `verify`: a progress bar, the parity table, and time and memory."""

from __future__ import annotations

import contextlib
import resource
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from elmo_deploy.cli._terminal import console as terminal


class Cost:
    """Seconds spent in the `with` block, and peak memory of the process at its end."""

    def __enter__(self) -> Cost:
        self._began = time.monotonic()
        return self

    def __exit__(self, *error: object) -> None:
        self.seconds = time.monotonic() - self._began
        unit = 1 if sys.platform == "darwin" else 1024  # Linux reports KiB.
        self.peak_bytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit

    def __str__(self) -> str:
        return f"{self.seconds:.1f} s, peak memory {terminal.size(self.peak_bytes)}"

    def figures(self) -> dict[str, float]:
        """The same values for programs."""
        return {"seconds": round(self.seconds, 3), "peak_bytes": self.peak_bytes}


@contextlib.contextmanager
def progress() -> Iterator[Callable[[str, float], None]]:
    """A bar on stderr. Yields a function of the current step and the completed share."""
    with Progress(
        TextColumn("{task.description:<32}"),
        BarColumn(),
        TimeElapsedColumn(),
        console=terminal.stderr(),
        transient=True,
        disable=not sys.stderr.isatty(),
    ) as bar:
        task = bar.add_task("", total=1.0)
        yield lambda what, share: bar.update(task, description=what, completed=share)


def table(rows: Iterable[Mapping[str, Any]]) -> Table:
    """One row per output and graph."""
    columns = (
        "precision",
        "graph",
        "output",
        "max abs error",
        "min cosine",
        "worst case",
        "result",
    )
    return terminal.table("reference and graph", columns, [_cells(row) for row in rows])


def _cells(row: Mapping[str, Any]) -> list[str | Text]:
    sensitive = f", {row['sensitive_cases']} sensitive" if row["sensitive_cases"] else ""
    return [
        row["precision"],
        row["graph"],
        row["output"],
        f"{row['max_abs_error']:.1e}",
        f"{row['min_cosine']:.7f}",
        f"{row['worst_case']} of {row['cases']}{sensitive}",
        Text("ok", "green") if row["passed"] else Text("beyond tolerance", "red"),
    ]
