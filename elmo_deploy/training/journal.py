"""What a run tells while it learns: metrics.jsonl, TensorBoard scalars, a progress bar, a curve."""

from __future__ import annotations

import importlib
import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
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

from elmo_runtime.errors import BackendUnavailableError
from elmo_runtime.files import atomic_file

METRICS, CURVE, TENSORBOARD = "metrics.jsonl", "learning-curve.png", "tensorboard"


@dataclass(frozen=True)
class Metrics:
    """Means over the steps since the last record; losses are nats a token."""

    step: int
    loss: float
    forward_loss: float
    backward_loss: float
    learning_rate: float
    gradient_norm: float  # before clipping
    tokens_per_second: float  # tokens of one direction, as the original counts them
    seconds: float  # of training since the first step, pauses not counted
    unknown_share: float = 0.0  # of the words to predict, those that are <UNK>

    @property
    def perplexity(self) -> float:
        """exp(loss); with sampled softmax it is of the sampled task."""
        return math.exp(min(self.loss, 700.0))


def require_reports() -> None:
    """Import what reports are written with, so that a run does not fail at its last step.

    Raises BackendUnavailableError naming the package that is missing or broken.
    """
    for module in ("torch.utils.tensorboard", "matplotlib.figure"):
        try:
            importlib.import_module(module)
        except ImportError as error:
            raise BackendUnavailableError(
                f"training writes TensorBoard files and a learning curve, but {module} cannot be"
                f" imported: {error}",
                hint='pip install "elmo-deploy[train]"',
            ) from error


class Journal:
    """Writes the records of a run; a resumed run forgets those after the step it resumes from."""

    def __init__(self, run: Path, *, first_step: int, total_steps: int, show: bool) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._path = run / METRICS
        self._records = [m for m in read_metrics(self._path) if m.step <= first_step]
        _write_all(self._path, self._records)
        self._stream = self._path.open("a", encoding="utf-8")
        self._board = SummaryWriter(str(run / TENSORBOARD), purge_step=first_step + 1)
        self._console = Console(stderr=True)
        self._show = show
        self._bar = _progress_bar(self._console, visible=show and self._console.is_terminal)
        self._task = self._bar.add_task("training", total=total_steps, completed=first_step, at="")

    def __enter__(self) -> Journal:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()
        self._stream.close()
        self._board.close()

    @property
    def records(self) -> Sequence[Metrics]:
        """Everything recorded so far, from the first step on."""
        return self._records

    def advance(self, step: int) -> None:
        """Move the progress bar."""
        self._bar.update(self._task, completed=step)

    def record(self, metrics: Metrics) -> None:
        """Write one record to every place."""
        self._records.append(metrics)
        self._stream.write(json.dumps(asdict(metrics)) + "\n")
        self._stream.flush()
        for name, value in (asdict(metrics) | {"perplexity": metrics.perplexity}).items():
            if name != "step":
                self._board.add_scalar(f"train/{name}", value, metrics.step)
        text = (
            f"loss {metrics.loss:.3f}  perplexity {metrics.perplexity:.1f}"
            f"  unknown {metrics.unknown_share:.1%}"
            f"  {metrics.tokens_per_second:,.0f} tokens/s"
        )
        self._bar.update(self._task, at=text)
        if self._show and not self._console.is_terminal:
            self._console.print(f"step {metrics.step}  {text}", highlight=False)


def read_metrics(path: Path) -> list[Metrics]:
    """The records of a `metrics.jsonl`; a last line that a kill tore is left out."""
    if not path.exists():
        return []
    records = []
    for line in path.read_text("utf-8-sig", errors="replace").splitlines():
        try:
            records.append(Metrics(**json.loads(line)))
        except (ValueError, TypeError):
            break
    return records


def draw_curve(records: Sequence[Metrics], path: Path) -> None:
    """Draw the training perplexity of both directions over the steps as a PNG."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.add_subplot()
    steps = [record.step for record in records]
    for name, losses in (
        ("forward", [record.forward_loss for record in records]),
        ("backward", [record.backward_loss for record in records]),
    ):
        axes.plot(steps, [math.exp(min(loss, 700.0)) for loss in losses], label=name)
    axes.set(xlabel="step", ylabel="training perplexity", yscale="log")
    axes.grid(alpha=0.3, which="both")
    axes.legend()
    with atomic_file(path) as scratch:
        figure.savefig(scratch, format="png", dpi=120)


def _write_all(path: Path, records: Sequence[Metrics]) -> None:
    with atomic_file(path) as scratch:
        lines = (json.dumps(asdict(record)) + "\n" for record in records)
        scratch.write_text("".join(lines), "utf-8")


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
