"""The directory of a run: its options, its saved states and its results.

options.json  resume/  metrics.jsonl  heldout.jsonl  learning-curve.png  tensorboard/  checkpoint/
best/
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch

from elmo_deploy.training.data.shards import Shard, identity_of
from elmo_deploy.training.data.vocabulary import Vocabulary
from elmo_deploy.training.options import TrainingOptions
from elmo_deploy.training.run.reporting import CURVE, HELDOUT, METRICS, TENSORBOARD
from elmo_deploy.training.run.resume import FOLDER, SavedState, load_latest, save_state
from elmo_export.checkpoint import Checkpoint
from elmo_export.own_files import CHECKPOINT_FORMAT
from elmo_runtime.errors import ConfigError, InputError
from elmo_runtime.files.atomic import atomic_file, check_directory
from elmo_runtime.files.scratch import INSIDE, scratch_directory
from elmo_runtime.text.sources import printable

CHECKPOINT, BEST, OPTIONS = "checkpoint", "best", "options.json"
OWN_NAMES = (CHECKPOINT, BEST, OPTIONS, FOLDER, METRICS, HELDOUT, CURVE, TENSORBOARD)
MAY_CHANGE = ("n_epochs",)  # options that may change when a run is resumed

logger = logging.getLogger(__name__)


class RunFolder:
    """The directory RUN/ of one run with its options, texts and vocabulary."""

    def __init__(
        self,
        path: Path,
        *,
        options: TrainingOptions,
        shards: Sequence[Shard],
        vocabulary: Vocabulary,
        n_processes: int = 1,
    ) -> None:
        _refuse_undecodable(path)
        self.path = path
        self._n_processes = n_processes
        self._options = options.to_options()
        self._identity = {
            "options": {k: v for k, v in self._options.items() if k not in MAY_CHANGE},
            "shards": [identity_of(shard) for shard in shards],
            "vocabulary": _digest(vocabulary.words),
        }

    @property
    def checkpoint(self) -> Path:
        """The directory of the trained model."""
        return self.path / CHECKPOINT

    @property
    def best(self) -> Path:
        """The directory of the model with the lowest held-out perplexity."""
        return self.path / BEST

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other runs out of the directory; only the process that writes calls this.

        Raises ArtifactError if another run uses it or it is not writable, and InputError if
        something else is in the place of the checkpoint.
        """
        with scratch_directory(self.path / INSIDE, target=self.path):
            for folder in (self.checkpoint, self.best):
                check_directory(folder, kind=CHECKPOINT_FORMAT)
            yield

    def enter(self, *, resume: bool, device: torch.device) -> SavedState | None:
        """The state to continue from; None at the start of a run.

        Raises InputError if the directory is not empty without `resume`, or contains files that no
        run wrote. Raises ConfigError if its run has other options, texts or another vocabulary.
        """
        if not resume and self._visible_names():
            raise InputError(
                f"{self.path} is not empty",
                hint="continue its run with --resume, or name another directory",
            )
        saved = load_latest(self.path, device=device) if resume else None
        if saved is not None:
            self._require_same_run(saved)
            self._require_as_many_processes(saved)
        elif resume:
            self._refuse_foreign_files()
            logger.warning("%s holds no saved state: training starts at step 1", self.path)
        return saved

    def _visible_names(self) -> list[str]:
        """What is in the directory, except what every directory may hold: .git, lost+found."""
        if not self.path.exists():
            return []
        names = sorted(path.name for path in self.path.iterdir())
        return [name for name in names if not name.startswith(".") and name != "lost+found"]

    def _refuse_foreign_files(self) -> None:
        """Without a saved state, only file names and options.json identify a run."""
        names = self._visible_names()
        foreign = [name for name in names if name not in OWN_NAMES]
        if names and not foreign and not (self.path / OPTIONS).is_file():
            foreign = names
        if foreign:
            raise InputError(
                f"{self.path} contains no training run but {', '.join(foreign[:3])}",
                hint="name the directory of a run, or an empty one",
            )

    def describe(self) -> None:
        """Write the complete options of the run."""
        with atomic_file(self.path / OPTIONS) as scratch:
            scratch.write_text(json.dumps(self._options, indent=2) + "\n", "utf-8")

    def save(self, step: int, state: SavedState) -> None:
        """Write the state of a step."""
        counters = {**state.counters, "run": self._identity}
        save_state(self.path, step, SavedState(state.tensors, counters))

    def write_checkpoint(self, checkpoint: Checkpoint) -> None:
        """Write the current model."""
        checkpoint.write(self.checkpoint)

    def write_best(self, checkpoint: Checkpoint) -> None:
        """Write the model that predicts the held-out text best so far."""
        checkpoint.write(self.best)

    def _require_as_many_processes(self, saved: SavedState) -> None:
        """Each process reads its own rows, so another number of processes would read other text."""
        n_rows, n_options = saved.tensors["lstm.h"].shape[2], saved.counters["run"]["options"]
        before = n_rows // n_options["batch_size"]
        if before != self._n_processes:
            raise ConfigError(
                f"{self.path} was trained by {_processes(before)}, which share its {n_rows} rows of"
                f" text, but this run has {_processes(self._n_processes)}",
                hint=f"resume it with {_start_of(before)}, or fine-tune in another directory:"
                f" elmo-deploy train --from {self.checkpoint}",
            )

    def _require_same_run(self, saved: SavedState) -> None:
        before = saved.counters["run"]
        differing = [f"the {k}" for k in ("shards", "vocabulary") if before[k] != self._identity[k]]
        options: dict[str, Any] = self._identity["options"]  # type: ignore[assignment]
        for name in sorted({*before["options"], *options}):
            old, new = before["options"].get(name), options.get(name)
            if old != new:
                differing.append(f"{name} (was {old!r}, now {new!r})")
        if differing:
            raise ConfigError(
                f"{self.path} was started with other settings: {', '.join(differing)}",
                hint="resume with the same settings, or start in another directory",
            )


def _processes(count: int) -> str:
    return "1 process" if count == 1 else f"{count} processes"


def _start_of(count: int) -> str:
    if count == 1:
        return "elmo-deploy train, without torchrun"
    return f"torchrun --nproc-per-node {count} --no-python elmo-deploy train"


def _refuse_undecodable(path: Path) -> None:
    """Refuse the path before the work: TensorBoard encodes the names of its files as UTF-8."""
    try:
        str(path).encode("utf-8")
    except UnicodeEncodeError as error:
        raise InputError(
            f"{printable(str(path))} is not UTF-8, and TensorBoard cannot write to it",
            hint="choose another directory",
        ) from error


def _digest(words: Sequence[str]) -> str:
    return hashlib.sha256("\n".join(words).encode("utf-8")).hexdigest()
