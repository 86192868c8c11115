"""Hidden vectors and the ids that follow -> cross-entropy, full or against sampled words."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from elmo_runtime.errors import ConfigError


@dataclass(frozen=True)
class Negatives:
    """Distinct ids (n,) drawn log-uniformly, and how many draws it took to find n of them."""

    ids: NDArray[np.int64]
    draws: int


def draw_negatives(n: int, vocabulary_size: int, random: np.random.Generator) -> Negatives:
    """Draw ids with P(k) = log((k + 2) / (k + 1)) / log(V + 1) until `n` of them are distinct."""
    if n >= vocabulary_size:
        raise ConfigError(
            f"n_negative_samples_batch is {n}, the vocabulary has {vocabulary_size} words",
            hint="draw fewer, or set sample_softmax to false",
        )
    drawn = np.empty(0, np.int64)
    while True:
        uniform = random.random(2 * n)
        ids = np.expm1(uniform * math.log(vocabulary_size + 1)).astype(np.int64)
        drawn = np.concatenate([drawn, np.minimum(ids, vocabulary_size - 1)])
        _, first = np.unique(drawn, return_index=True)
        if len(first) >= n:
            first = np.sort(first)[:n]
            return Negatives(drawn[first], int(first[-1]) + 1)


def log_expected_count(ids: Tensor, draws: int, vocabulary_size: int) -> Tensor:
    """Logarithm of the probability that each id is among the distinct ids of so many draws."""
    ids = ids.double()
    probability = (torch.log(ids + 2) - torch.log(ids + 1)) / math.log(vocabulary_size + 1)
    return torch.log(-torch.expm1(draws * torch.log1p(-probability)))


@dataclass(frozen=True)
class RowGradient:
    """The gradient of a tensor that is zero outside `rows` (n,), which are distinct."""

    rows: Tensor
    values: Tensor  # (n, ...)

    def dense(self, like: Tensor) -> Tensor:
        """The same gradient with all its zeros, in the shape of `like`."""
        return torch.zeros_like(like).index_copy(0, self.rows, self.values)


class Softmax(nn.Module):
    """Logits x W^T + b over the vocabulary, shared by both directions."""

    def __init__(self, vocabulary_size: int, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(vocabulary_size, width))
        self.bias = nn.Parameter(torch.empty(vocabulary_size))

    def forward(self, hidden: Tensor, targets: Tensor) -> Tensor:
        """(n, P) vectors, (n,) ids -> cross-entropy (n,) over the whole vocabulary."""
        logits = F.linear(hidden, self.weight, self.bias).float()
        return F.cross_entropy(logits, targets, reduction="none")

    def reset_parameters(self, generator: torch.Generator) -> None:
        """The paper's initialisation."""
        nn.init.normal_(self.weight, 0.0, 1 / math.sqrt(self.weight.shape[1]), generator)
        nn.init.zeros_(self.bias)


class SampledSoftmax:
    """The few rows of a softmax that one window touches, gathered once for both directions.

    Only these rows get a gradient, so that a step costs nothing for the rest of the vocabulary.
    """

    def __init__(self, softmax: Softmax, targets: Tensor, negatives: list[Negatives]) -> None:
        device = targets.device
        self._size = len(softmax.bias)
        self._negatives = [torch.from_numpy(drawn.ids).to(device) for drawn in negatives]
        self._draws = [drawn.draws for drawn in negatives]
        self._targets = targets.flatten(1)
        touched = torch.cat([self._targets.flatten(), *self._negatives])
        self.rows, places = torch.unique(touched, return_inverse=True)
        *places, last = places.split([targets[0].numel()] * 2 + [len(n) for n in self._negatives])
        self._places = [*places, last]
        self.weight = softmax.weight.detach()[self.rows].requires_grad_()
        self.bias = softmax.bias.detach()[self.rows].requires_grad_()

    def loss(self, hidden: Tensor, direction: int) -> Tensor:
        """(n, P) vectors of a direction -> cross-entropy (n,) against its negatives."""
        targets, negatives = self._targets[direction], self._negatives[direction]
        at_target, at_negatives = self._places[direction], self._places[2 + direction]
        true = (hidden * self.weight[at_target]).sum(dim=-1).float()
        true = true + self.bias[at_target] - self._correction(targets, direction)
        sampled = F.linear(hidden, self.weight[at_negatives]).float()
        sampled = sampled + (self.bias[at_negatives] - self._correction(negatives, direction))
        # A negative that is the target itself would be counted twice.
        sampled = sampled.masked_fill(targets[:, None] == negatives, -math.inf)
        everything = torch.logaddexp(true, sampled.logsumexp(dim=-1))
        return everything - true

    def gradients(self) -> dict[str, RowGradient]:
        """What `backward` left, under the names of a checkpoint."""
        assert self.weight.grad is not None and self.bias.grad is not None
        return {
            "softmax.weight": RowGradient(self.rows, self.weight.grad),
            "softmax.bias": RowGradient(self.rows, self.bias.grad),
        }

    def _correction(self, ids: Tensor, direction: int) -> Tensor:
        return log_expected_count(ids, self._draws[direction], self._size).float()
