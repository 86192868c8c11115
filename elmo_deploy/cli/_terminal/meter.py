"""A progress bar in tokens per second, and the totals at the end."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Self

from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from elmo_deploy.cli._terminal import console as terminal

if TYPE_CHECKING:
    from elmo_runtime.bulk import BulkJob, Corpus

SHOW_EVERY = 0.1  # Seconds between two updates of the bar.


class Meter:
    """Counts sentences and tokens, and draws a bar on stderr if that is a terminal."""

    def __init__(self, corpus: Corpus | BulkJob) -> None:
        self._corpus = corpus
        self._bar = Progress(
            BarColumn(),
            TextColumn("{task.description}"),
            TimeRemainingColumn(),
            console=terminal.stderr(),
            transient=True,
            disable=not sys.stderr.isatty(),
        )
        self._task = self._bar.add_task("loading", total=None)
        self._began = self._shown = time.monotonic()
        self.sentences = self.tokens = 0

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.seconds = time.monotonic() - self._began
        self._bar.stop()

    def add(self, tokens: int) -> None:
        """Count one sentence."""
        self.sentences += 1
        self.tokens += tokens
        if time.monotonic() - self._shown > SHOW_EVERY:
            self._show()

    def __str__(self) -> str:
        rate = f"{self.summary()['tokens_per_second']:,.0f} tokens/s"
        sentences = terminal.counted(self.sentences, "sentence")
        return f"{sentences}, {terminal.counted(self.tokens, 'token')}, {rate}"

    def summary(self) -> dict[str, float]:
        """The totals. Call it after the `with` block."""
        return {
            "sentences": self.sentences,
            "tokens": self.tokens,
            "seconds": round(self.seconds, 3),
            "tokens_per_second": round(self.tokens / max(self.seconds, 1e-9), 1),
        }

    def _show(self) -> None:
        self._shown = time.monotonic()
        rate = self.tokens / (self._shown - self._began)
        self._bar.update(
            self._task,
            description=f"{self.tokens:,} tokens, {rate:,.0f}/s",
            completed=self._corpus.fraction_read,
            total=None if self._corpus.fraction_read is None else 1.0,
        )
