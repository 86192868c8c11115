"""The reports of a run: records, TensorBoard scalars, a progress bar and the learning curve."""

from __future__ import annotations

import contextlib
import importlib
import time
from collections.abc import Sequence
from dataclasses import asdict
from datetime import timedelta
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from elmo_deploy.training.run.curve import draw_curve
from elmo_deploy.training.run.metrics import HeldoutMetrics, Metrics, RecordFile
from elmo_deploy.training.run.scalars import ScalarFile
from elmo_runtime.errors import BackendUnavailableError

METRICS, HELDOUT, CURVE, TENSORBOARD = (
    "metrics.jsonl",
    "heldout.jsonl",
    "learning-curve.png",
    "tensorboard",
)


def require_reports() -> None:
    """Import the libraries of the reports, so that a run does not fail at its last step.

    Raises BackendUnavailableError with the module that is missing or broken.
    """
    for module in ("tensorboard.summary.writer.record_writer", "matplotlib.figure"):
        try:
            importlib.import_module(module)
        except ImportError as error:
            raise BackendUnavailableError(
                f"training writes TensorBoard files and a learning curve, but {module} cannot be"
                f" imported: {error}",
                hint='pip install "elmo-deploy[train]"',
            ) from error


class Reporter:
    """Writes the reports of a run; a resumed run drops records after the step it resumes from."""

    def __init__(
        self, run: Path, *, first_step: int, total_steps: int, sampled: bool, show: bool
    ) -> None:
        self._run = run
        self._training = RecordFile(run / METRICS, Metrics, first_step=first_step)
        self._heldout = RecordFile(run / HELDOUT, HeldoutMetrics, first_step=first_step)
        self._board = ScalarFile(run / TENSORBOARD, first_step=first_step + 1)
        self._console = Console(stderr=True)
        self._sampled, self._show = sampled, show
        self._first_step, self._total_steps = first_step, total_steps
        self._began = time.monotonic()
        self._bar = _progress_bar(self._console, visible=show and self._console.is_terminal)
        self._task = self._bar.add_task("training", total=total_steps, completed=first_step, at="")

    def __enter__(self) -> Reporter:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()
        with contextlib.ExitStack() as stack:
            for file in (self._board, self._heldout, self._training):
                stack.callback(file.close)

    @property
    def records(self) -> Sequence[Metrics]:
        """Everything recorded so far, from the first step on."""
        return self._training.records

    @property
    def heldout(self) -> Sequence[HeldoutMetrics]:
        """The held-out perplexities so far, from the first save on."""
        return self._heldout.records

    def advance(self, step: int) -> None:
        """Move the progress bar."""
        self._bar.update(self._task, completed=step)

    def record(self, metrics: Metrics) -> None:
        """Write one record to all reports."""
        self._training.append(metrics)
        self._write_scalars("train", metrics, perplexity=metrics.perplexity)
        text = (
            f"loss {metrics.loss:.3f}  perplexity {metrics.perplexity:.1f}"
            f"  unknown {metrics.unknown_share:.1%}  {metrics.tokens_per_second:,.0f} tokens/s"
        )
        self._bar.update(self._task, at=text)
        if not self._console.is_terminal:
            left = self._time_left(metrics.step)
            self._print(f"step {metrics.step} of {self._total_steps}  {text}  {left} left")

    def record_heldout(self, metrics: HeldoutMetrics) -> bool:
        """Write one record to all reports; return whether its zero-state perplexity is the best.

        An embedder starts every sentence from the zero state unless another state policy is chosen.
        """
        best = min((r.zero_state_perplexity for r in self.heldout), default=float("inf"))
        self._heldout.append(metrics)
        self._write_scalars("heldout", metrics)
        self._print(
            f"step {metrics.step}  held-out perplexity {metrics.perplexity:.1f}, from the zero"
            f" state {metrics.zero_state_perplexity:.1f}  unknown {metrics.unknown_share:.1%}"
        )
        return metrics.zero_state_perplexity < best

    def draw(self) -> None:
        """Write the learning curve of all records."""
        draw_curve(self._run / CURVE, self.records, self.heldout, sampled=self._sampled)

    def _write_scalars(self, group: str, record: Metrics | HeldoutMetrics, **more: float) -> None:
        values = asdict(record) | more
        del values["step"]
        self._board.add(record.step, {f"{group}/{name}": v for name, v in values.items()})

    def _time_left(self, step: int) -> timedelta:
        """Estimate it from the mean time per step of this process."""
        per_step = (time.monotonic() - self._began) / max(1, step - self._first_step)
        return timedelta(seconds=round(per_step * (self._total_steps - step)))

    def _print(self, text: str) -> None:
        if self._show:
            self._console.print(text, highlight=False, markup=False, soft_wrap=True)


def _progress_bar(console: Console, *, visible: bool) -> Progress:
    columns: list[Any] = [
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[at]}"),
        TimeElapsedColumn(),
        TimeRemainingColumn(elapsed_when_finished=True),
    ]
    return Progress(*columns, console=console, disable=not visible)
