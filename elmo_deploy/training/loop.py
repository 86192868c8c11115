"""The training loop: windows of text -> gradients -> weights. It can resume at any step."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from elmo_deploy.training.data.coverage import MAX_UNKNOWN
from elmo_deploy.training.data.randomness import Purpose, torch_seed
from elmo_deploy.training.data.shards import Shard
from elmo_deploy.training.data.vocabulary import Vocabulary
from elmo_deploy.training.devices import choose_device
from elmo_deploy.training.distributed import Processes
from elmo_deploy.training.evaluation.heldout import HeldoutText
from elmo_deploy.training.language_model import LanguageModel
from elmo_deploy.training.learner import Learner
from elmo_deploy.training.optimizer import clip_to_global_norm, learning_rate_at
from elmo_deploy.training.options import TrainingOptions
from elmo_deploy.training.preparation import prepare
from elmo_deploy.training.run.folder import RunFolder
from elmo_deploy.training.run.metrics import HeldoutMetrics, Metrics
from elmo_deploy.training.run.reporting import Reporter, require_reports
from elmo_deploy.training.run.saving import Saver
from elmo_export.checkpoint import Checkpoint
from elmo_runtime.errors import ConfigError
from elmo_runtime.signals import StopRequest

ASK_EVERY = 16  # steps after which several processes agree on whether to stop

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class TrainingResult:
    """The end of a run, and the checkpoint that it wrote."""

    checkpoint: Path
    step: int
    total_steps: int
    last: Metrics | None  # the last record of this call
    heldout: HeldoutMetrics | None = None  # the last record of the run
    best: Path | None = None  # the checkpoint with the lowest held-out perplexity
    rank: int = 0  # of the process; only rank 0 writes files

    @property
    def finished(self) -> bool:
        """Whether all steps are done; a signal can end the run earlier."""
        return self.step == self.total_steps


def train(
    options: TrainingOptions,
    *,
    shards: Sequence[Shard],
    vocabulary: Vocabulary,
    run: Path,
    heldout: Sequence[Shard] = (),
    start: Checkpoint | None = None,
    resume: bool = False,
    device: str = "auto",
    save_every: int = 1000,
    log_every: int = 100,
    max_unknown: float = MAX_UNKNOWN,
    show: bool = False,
) -> TrainingResult:
    """Train on the sentences of `shards` and write RUN/checkpoint; `start` is the initial model.

    Every save measures the perplexity of the `heldout` files, and RUN/best keeps the model with the
    lowest one from the zero state. With `resume`, the run continues from its last saved state; on a
    CPU with the same number of threads the result is bit-identical. SIGINT and SIGTERM save and end
    the run after the current step. `show` draws a progress bar on stderr, or prints lines if stderr
    is not a terminal. Under torchrun, all processes share the batch.
    """
    place = choose_device(device)
    require_reports()
    processes = Processes.join(place)
    options, remarks = prepare(options, shards, vocabulary, max_unknown=max_unknown)
    total_steps = count_steps(options, processes.count)
    folder = RunFolder(
        run,
        options=options,
        shards=shards,
        vocabulary=vocabulary,
        n_processes=processes.count,
    )
    with folder.locked() if processes.rank == 0 else contextlib.nullcontext():
        saved = folder.enter(resume=resume, device=place)
        model = make_model(options, vocabulary, start).to(place)
        learner = Learner(
            options, model=model, shards=shards, vocabulary=vocabulary, processes=processes
        )
        if saved is not None:
            learner.restore(saved)
        heldout_text = HeldoutText(heldout, learner.lexicon) if heldout else None
        processes.wait()  # rank 0 writes next; the others must have seen the directory empty
        reporter = None
        if processes.rank == 0:
            for remark in remarks:
                logger.warning(remark)
            folder.describe()
            reporter = Reporter(
                run,
                first_step=learner.step,
                total_steps=total_steps,
                sampled=options.sample_softmax,
                show=show,
            )
        saver = Saver(
            folder,
            learner=learner,
            vocabulary=vocabulary,
            reporter=reporter,
            heldout=heldout_text,
        )
        last: Metrics | None = None
        own_gpu = [place] if place.type == "cuda" else []
        with (
            torch.random.fork_rng(devices=own_gpu),
            StopRequest() as stop,
            reporter or contextlib.nullcontext(),
        ):
            while learner.step < total_steps and not must_stop(stop, learner.step, processes):
                learner.step += 1
                # 1. The learning rate of this step.
                rate = learning_rate_at(learner.step, total_steps, options)
                # 2. Forward and backward through the next windows.
                gradients = learner.gradients()
                # 3. The mean over all processes.
                gradients = processes.average(gradients)
                # 4. One norm for all gradients together.
                norm = clip_to_global_norm(gradients, options.all_clip_norm_val)
                # 5. The update.
                if learner.loss_scale.accept(norm):
                    learner.optimizer.step(gradients, rate)
                # 6. Report.
                if learner.step % log_every == 0 or learner.step == total_steps:
                    last = learner.metrics(learning_rate=rate, gradient_norm=norm)
                    if reporter is not None:
                        reporter.record(last)
                if reporter is not None:
                    reporter.advance(learner.step)
                # 7. Save.
                if learner.step % save_every == 0 or learner.step == total_steps:
                    saver.measure()
                    saver.save()
            saver.save()  # where a signal ended the run between two saves
        processes.leave()
        measured = reporter.heldout if reporter is not None else ()
    return TrainingResult(
        folder.checkpoint,
        step=learner.step,
        total_steps=total_steps,
        last=last,
        heldout=measured[-1] if measured else None,
        best=folder.best if measured else None,
        rank=processes.rank,
    )


def count_steps(options: TrainingOptions, n_processes: int) -> int:
    """The number of updates of a run; an epoch ends with its last full batch."""
    per_step = options.batch_size * options.unroll_steps * options.accumulate_windows * n_processes
    total = options.n_epochs * ((options.n_train_tokens or 0) // per_step)
    if total == 0:
        raise ConfigError(
            f"a step reads {per_step} tokens, but an epoch has only {options.n_train_tokens}",
            hint="lower batch_size or unroll_steps, or give more text",
        )
    return total


def make_model(
    options: TrainingOptions, vocabulary: Vocabulary, start: Checkpoint | None
) -> LanguageModel:
    """A model with the paper's initial weights, or with those of `start`.

    The softmax of `start` is used only if the vocabulary is the same. Raises ConfigError if `start`
    has another shape.
    """
    model = LanguageModel(options.model, len(vocabulary), dropout=options.dropout)
    seed = torch_seed(Purpose.WEIGHTS, options.seed)
    model.reset_parameters(torch.Generator().manual_seed(seed))
    if start is None:
        return model
    if start.config != options.model:
        raise ConfigError(f"the options describe {options.model}, the checkpoint is {start.config}")
    keeps_softmax = start.vocabulary == vocabulary.words
    if not model.load_checkpoint(start, with_softmax=keeps_softmax):
        logger.warning(
            "the softmax starts from random weights: the checkpoint has none for this vocabulary"
        )
    if start.mixes:
        names = ", ".join(mix.name for mix in start.mixes)
        logger.warning("layer mixes %s are not kept: train them again on the new model", names)
    return model


def must_stop(stop: StopRequest, step: int, processes: Processes) -> bool:
    """Whether a signal asked to stop; several processes agree on it every few steps."""
    if processes.count == 1:
        return stop.requested
    return step % ASK_EVERY == 0 and processes.any(stop.requested)
