"""Gradients -> updated weights: Adagrad as TensorFlow computes it, AdamW, clipping, schedules."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Protocol

import torch
from torch import Tensor

from elmo_deploy.training.options import TrainingOptions
from elmo_deploy.training.softmax import RowGradient

Gradients = dict[str, Tensor | RowGradient]


class Optimizer(Protocol):
    """What the loop needs; a resumed run restores all `slots`."""

    slots: dict[str, Tensor]

    def step(self, gradients: Gradients, learning_rate: float) -> None:
        """Update the parameters that have a gradient."""


class Adagrad:
    """accumulator += g^2; p -= lr g / sqrt(accumulator). It starts above 0 and needs no epsilon.

    Rows without a gradient do not change, exactly as with a gradient of zero.
    """

    def __init__(self, parameters: Mapping[str, Tensor], *, initial_accumulator: float) -> None:
        self._parameters = parameters
        self.slots = {
            f"accumulator.{name}": torch.full_like(p, initial_accumulator)
            for name, p in parameters.items()
        }

    @torch.no_grad()
    def step(self, gradients: Gradients, learning_rate: float) -> None:
        """Update the parameters that have a gradient."""
        for name, gradient in gradients.items():
            parameter, accumulator = self._parameters[name], self.slots[f"accumulator.{name}"]
            if isinstance(gradient, RowGradient):
                rows, g = gradient.rows, gradient.values
                total = accumulator[rows].addcmul_(g, g)
                accumulator.index_copy_(0, rows, total)
                parameter.index_add_(0, rows, g / total.sqrt_(), alpha=-learning_rate)
            else:
                accumulator.addcmul_(gradient, gradient)
                parameter.addcdiv_(gradient, accumulator.sqrt(), value=-learning_rate)


class AdamW:
    """AdamW (https://arxiv.org/abs/1711.05101) with betas 0.9, 0.999; biases do not decay.

    The moments of every row change at every step, so a gradient of few rows is padded with zeros.
    """

    BETAS = (0.9, 0.999)
    EPSILON = 1e-8

    def __init__(self, parameters: Mapping[str, Tensor], *, weight_decay: float) -> None:
        self._parameters = parameters
        self._weight_decay = weight_decay
        self.slots = {"steps": torch.zeros((), dtype=torch.int64)}
        for name, p in parameters.items():
            self.slots[f"mean.{name}"] = torch.zeros_like(p)
            self.slots[f"square.{name}"] = torch.zeros_like(p)

    @torch.no_grad()
    def step(self, gradients: Gradients, learning_rate: float) -> None:
        """Update the parameters that have a gradient."""
        self.slots["steps"] += 1
        steps = int(self.slots["steps"])
        (b1, b2), lr = self.BETAS, learning_rate
        for name, gradient in gradients.items():
            parameter = self._parameters[name]
            g = gradient.dense(parameter) if isinstance(gradient, RowGradient) else gradient
            mean, square = self.slots[f"mean.{name}"], self.slots[f"square.{name}"]
            mean.lerp_(g, 1 - b1)
            square.mul_(b2).addcmul_(g, g, value=1 - b2)
            if parameter.dim() > 1:
                parameter.mul_(1 - lr * self._weight_decay)
            deviation = (square / (1 - b2**steps)).sqrt_().add_(self.EPSILON)
            parameter.addcdiv_(mean, deviation, value=-lr / (1 - b1**steps))


def make_optimizer(options: TrainingOptions, parameters: Mapping[str, Tensor]) -> Optimizer:
    """The optimizer that the options name."""
    if options.optimizer == "adamw":
        return AdamW(parameters, weight_decay=options.weight_decay)
    return Adagrad(parameters, initial_accumulator=options.initial_accumulator)


def learning_rate_at(step: int, total: int, options: TrainingOptions) -> float:
    """The learning rate of step 1..total: a linear warm-up, then the decay."""
    warmup, peak = options.warmup_steps, options.peak_rate
    if step <= warmup:
        return peak * step / warmup
    progress = (step - warmup - 1) / max(1, total - warmup)  # 0 at the first step after it
    if options.decay == "linear":
        return peak * (1 - progress)
    if options.decay == "cosine":
        return peak * (1 + math.cos(math.pi * progress)) / 2
    if options.decay == "inverse_sqrt":
        return peak * math.sqrt(max(1, warmup) / max(1, step))
    return peak


@torch.no_grad()
def clip_to_global_norm(gradients: Gradients, limit: float | None) -> Tensor:
    """Scale all gradients so that their joint norm is at most `limit`; return the norm before.

    A row that both directions use counts once, with its summed gradient. The norm is therefore that
    of the dense gradient, as in bilm-tf after it merges the rows of its towers.
    """
    values = [g.values if isinstance(g, RowGradient) else g for g in gradients.values()]
    norm: Tensor = torch.stack([torch.linalg.vector_norm(v) for v in values]).norm()
    if limit is not None:
        share = limit / norm.clamp(min=limit)
        for value in values:
            value.mul_(share)
    return norm
