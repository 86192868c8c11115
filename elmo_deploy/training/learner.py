"""The state of a training run: weights, optimizer, text position, LSTM states and sums.

It computes gradients and can be saved and restored; the loop itself is in `loop.py`.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict

import torch
from torch import Tensor

from elmo_deploy.model.lstm import LstmState
from elmo_deploy.training.data.batches import Lexicon, TrainingBatch
from elmo_deploy.training.data.corpus import TrainingStreams, Window
from elmo_deploy.training.data.randomness import Purpose, numbers_for, torch_seed
from elmo_deploy.training.data.shards import Shard
from elmo_deploy.training.data.vocabulary import Vocabulary
from elmo_deploy.training.distributed import Processes, merge_rows
from elmo_deploy.training.language_model import Hidden, LanguageModel, detached
from elmo_deploy.training.optimizer import Gradients, make_optimizer
from elmo_deploy.training.options import TrainingOptions
from elmo_deploy.training.precision import LossScale, products_in
from elmo_deploy.training.run.metrics import Metrics
from elmo_deploy.training.run.resume import SavedState
from elmo_deploy.training.softmax import RowGradient, SampledSoftmax, draw_negatives


class Learner:
    """Computes gradients from windows; `step` counts the updates."""

    def __init__(
        self,
        options: TrainingOptions,
        *,
        model: LanguageModel,
        shards: Sequence[Shard],
        vocabulary: Vocabulary,
        processes: Processes,
    ) -> None:
        self.model = model
        self.optimizer = make_optimizer(options, dict(model.named_parameters()))
        self.loss_scale = LossScale.start(options.precision)
        self.step = 0
        self._options = options
        self._shards = shards
        self.lexicon = Lexicon(vocabulary, options.model)
        self._processes = processes
        self._rows = processes.rows(options.batch_size)
        self._n_rows = options.batch_size * processes.count
        self._streams = TrainingStreams(shards, n_rows=self._n_rows, seed=options.seed)
        self._state = model.zero_state(options.batch_size)
        self._device = model.softmax.weight.device
        self._loss_sums = torch.zeros(2, dtype=torch.float64, device=self._device)
        self._word_sums = torch.zeros(2, dtype=torch.float64, device=self._device)  # unknown, all
        self._windows = 0  # in the sums, since the last record
        self._seconds_before = self._reported_seconds = 0.0
        self._clock = time.monotonic()

    def gradients(self) -> Gradients:
        """Read the next windows; return the gradients of their mean loss times unroll_steps."""
        windows = self._options.accumulate_windows
        factor = self._options.unroll_steps / windows
        rows: dict[str, list[RowGradient]] = {}
        for parameter in self.model.parameters():
            parameter.grad = None
        for window in range(windows):
            counter = (self.step - 1) * windows + window
            for name, gradient in self._learn_window(counter, factor).items():
                rows.setdefault(name, []).append(gradient)
        gradients: Gradients = {
            name: p.grad for name, p in self.model.named_parameters() if p.grad is not None
        }
        gradients |= {name: _sum_rows(parts) for name, parts in rows.items()}
        if self.loss_scale.value != 1.0:
            for scaled in gradients.values():
                values = scaled.values if isinstance(scaled, RowGradient) else scaled
                values /= self.loss_scale.value
        return gradients

    def _learn_window(self, counter: int, factor: float) -> dict[str, RowGradient]:
        """Forward and backward through one window; return the gradients of the softmax rows."""
        options = self._options
        torch.manual_seed(torch_seed(Purpose.DROPOUT, options.seed, self._processes.rank, counter))
        batch = self._next_batch()
        softmax = self._sampled_softmax(batch, counter) if options.sample_softmax else None
        with products_in(options.precision, self._device):
            hidden = self.model(batch.words, batch.positions, self._starting_state(counter))
            losses = self._losses(hidden, batch, softmax)
        torch.autograd.backward(losses.mean() * (factor * self.loss_scale.value))
        self._state = detached(hidden.state)
        self._loss_sums += losses.detach()
        self._word_sums += self.lexicon.count_unknown(batch.targets)
        self._windows += 1
        return softmax.gradients() if softmax else {}

    def _next_batch(self) -> TrainingBatch:
        """The next window, of which this process takes its own rows."""
        windows = self._streams.windows(self._options.unroll_steps)
        forward, backward = (
            Window(window.inputs[self._rows], window.targets[self._rows]) for window in windows
        )
        return self.lexicon.batch(forward, backward).to(self._device)

    def _starting_state(self, counter: int) -> LstmState:
        """The final state of the last window; a few random rows restart from zero."""
        options = self._options
        drawn = numbers_for(Purpose.ZERO_STATES, options.seed, counter).random(self._n_rows)
        restarts = torch.from_numpy(drawn[self._rows] < options.zero_state_probability)
        rows = restarts.to(self._device).unsqueeze(1)
        return LstmState(*(part.masked_fill(rows, 0.0) for part in self._state))

    def _sampled_softmax(self, batch: TrainingBatch, counter: int) -> SampledSoftmax:
        """The softmax with negatives for each direction, the same in every process."""
        n, size = self._options.n_negatives, len(self.model.softmax.bias)
        negatives = [
            draw_negatives(
                n, size, numbers_for(Purpose.NEGATIVES, self._options.seed, direction, counter)
            )
            for direction in range(2)
        ]
        return SampledSoftmax(self.model.softmax, batch.targets, negatives, fast=self.model.fast)

    def _losses(
        self, hidden: Hidden, batch: TrainingBatch, softmax: SampledSoftmax | None
    ) -> Tensor:
        """(2,) mean cross-entropy of the forward and of the backward direction."""
        losses = []
        for direction in range(2):
            vectors = hidden.vectors[direction].flatten(0, 1)
            if softmax is not None:
                loss = softmax.loss(vectors, direction)
            else:
                loss = self.model.softmax(vectors, batch.targets[direction].flatten())
            losses.append(loss.mean())
        return torch.stack(losses)

    def metrics(self, *, learning_rate: float, gradient_norm: Tensor) -> Metrics:
        """Means over the steps since the last call, over all processes."""
        sums = self._processes.mean(self._loss_sums.clone())
        forward, backward = (sums / self._windows).tolist()
        unknown, words = self._processes.mean(self._word_sums.clone()).tolist()
        seconds = self.seconds
        tokens = self._windows * self._n_rows * self._options.unroll_steps
        metrics = Metrics(
            step=self.step,
            loss=(forward + backward) / 2,
            forward_loss=forward,
            backward_loss=backward,
            learning_rate=learning_rate,
            gradient_norm=float(gradient_norm),
            tokens_per_second=tokens / max(seconds - self._reported_seconds, 1e-9),
            seconds=seconds,
            unknown_share=unknown / max(words, 1),
        )
        self._loss_sums.zero_()
        self._word_sums.zero_()
        self._windows, self._reported_seconds = 0, seconds
        return metrics

    @property
    def seconds(self) -> float:
        """Seconds of training since the first step, without pauses between runs."""
        return self._seconds_before + time.monotonic() - self._clock

    def state(self) -> SavedState:
        """Everything that the rest of the run depends on, of all processes."""
        weights = {f"model.{name}": p.detach() for name, p in self.model.named_parameters()}
        slots = {f"optimizer.{name}": slot for name, slot in self.optimizer.slots.items()}
        carried = {
            f"lstm.{name}": self._processes.join_rows(part, dim=2)
            for name, part in self._state._asdict().items()
        }
        counters = {
            "step": self.step,
            "streams": self._streams.state(),
            "loss sums": self._processes.mean(self._loss_sums.clone()).tolist(),
            "word sums": self._processes.mean(self._word_sums.clone()).tolist(),
            "windows": self._windows,
            "seconds": self.seconds,
            "told seconds": self._reported_seconds,
            "loss scale": asdict(self.loss_scale),
        }
        return SavedState(weights | slots | carried, counters)

    @torch.no_grad()
    def restore(self, saved: SavedState) -> None:
        """Continue from `saved`, which a learner with the same options wrote."""
        for name, parameter in self.model.named_parameters():
            parameter.copy_(saved.tensors[f"model.{name}"])
        for name, slot in self.optimizer.slots.items():
            slot.copy_(saved.tensors[f"optimizer.{name}"])
        self._state = LstmState(
            saved.tensors["lstm.h"][:, :, self._rows].clone(),
            saved.tensors["lstm.c"][:, :, self._rows].clone(),
        )
        counters = saved.counters
        self.step = counters["step"]
        self._streams = TrainingStreams(
            self._shards,
            n_rows=self._n_rows,
            seed=self._options.seed,
            state=counters["streams"],
        )
        self._loss_sums.copy_(torch.tensor(counters["loss sums"], dtype=torch.float64))
        self._word_sums.copy_(torch.tensor(counters.get("word sums", [0, 0]), dtype=torch.float64))
        self._windows = counters["windows"]
        self._seconds_before, self._clock = counters["seconds"], time.monotonic()
        self._reported_seconds = counters["told seconds"]
        self.loss_scale = LossScale(**counters["loss scale"])


def _sum_rows(parts: Sequence[RowGradient]) -> RowGradient:
    """The sum of the gradients of several windows."""
    if len(parts) == 1:
        return parts[0]
    return merge_rows(
        torch.cat([part.rows for part in parts]), torch.cat([part.values for part in parts])
    )
