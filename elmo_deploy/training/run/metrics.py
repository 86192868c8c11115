"""The records of a run: one JSON object per line, of training and of held-out text."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Generic, TextIO, TypeVar

from elmo_runtime.files.atomic import atomic_file
from elmo_runtime.files.storage import write_errors


@dataclass(frozen=True)
class Metrics:
    """Means over the steps since the last record; losses are nats per token."""

    step: int
    loss: float
    forward_loss: float
    backward_loss: float
    learning_rate: float
    gradient_norm: float  # before clipping
    tokens_per_second: float  # tokens of one direction, as bilm-tf counts them
    seconds: float  # of training since the first step, without pauses
    unknown_share: float = 0.0  # share of <UNK> among the words to predict

    @property
    def perplexity(self) -> float:
        """The exp of the loss; with a sampled softmax it is that of the sampled task."""
        return math.exp(min(self.loss, 700.0))


@dataclass(frozen=True)
class HeldoutMetrics:
    """Perplexities over the full softmax: the mean of both directions, and each of them."""

    step: int
    perplexity: float  # with carried states, as in `elmo-deploy evaluate`
    forward_perplexity: float
    backward_perplexity: float
    zero_state_perplexity: float  # each sentence from the zero state, as in an embedder
    forward_zero_state_perplexity: float
    backward_zero_state_perplexity: float
    unknown_share: float  # share of <UNK> among the words


Record = TypeVar("Record", bound=Metrics | HeldoutMetrics)


def read_metrics(path: Path) -> list[Metrics]:
    """The records of a `metrics.jsonl`, without an incomplete last line."""
    return read_records(path, Metrics)


def read_records(path: Path, kind: type[Record]) -> list[Record]:
    """The records of a file up to the first invalid line; none if there is no file."""
    if not path.exists():
        return []
    records: list[Record] = []
    for line in path.read_text("utf-8", errors="replace").splitlines():
        try:
            records.append(kind(**json.loads(line)))
        except (ValueError, TypeError):
            break
    return records


class RecordFile(Generic[Record]):
    """Appends records to a file; a resumed run drops those after the step it resumes from."""

    def __init__(self, path: Path, kind: type[Record], *, first_step: int) -> None:
        self.records = [r for r in read_records(path, kind) if r.step <= first_step]
        self._path = path
        self._stream: TextIO | None = None
        if path.exists():
            with atomic_file(path) as scratch:
                scratch.write_text("".join(map(_line, self.records)), "utf-8")

    def append(self, record: Record) -> None:
        """Write one record and flush it."""
        self.records.append(record)
        with write_errors(self._path):
            if self._stream is None:
                self._stream = self._path.open("a", encoding="utf-8")
            self._stream.write(_line(record))
            self._stream.flush()

    def close(self) -> None:
        """Close the file."""
        if self._stream is not None:
            with write_errors(self._path):
                self._stream.close()


def _line(record: Metrics | HeldoutMetrics) -> str:
    return json.dumps(asdict(record)) + "\n"
