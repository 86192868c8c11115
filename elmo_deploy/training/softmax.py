"""Hidden vectors and the ids that follow -> cross-entropy, full or with sampled words."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from elmo_deploy.fast.log_sum_exp import fast_log_sum_exp
from elmo_deploy.training.options import require_fewer_negatives


@dataclass(frozen=True)
class Negatives:
    """Distinct ids (n,), drawn log-uniformly, and the number of draws until n were distinct."""

    ids: NDArray[np.int64]
    draws: int


def draw_negatives(n: int, vocabulary_size: int, random: np.random.Generator) -> Negatives:
    """Draw ids with P(k) = log((k + 2) / (k + 1)) / log(V + 1) until `n` < V are distinct."""
    require_fewer_negatives(n, vocabulary_size)
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
    """The logarithm of the probability that each id is among the distinct ids of the draws."""
    probability = torch.log1p(1 / (ids.double() + 1)) / math.log(vocabulary_size + 1)
    return torch.log(-torch.expm1(draws * torch.log1p(-probability)))


@dataclass(frozen=True)
class RowGradient:
    """The gradient of a tensor that is zero outside `rows` (n,), which are distinct."""

    rows: Tensor
    values: Tensor  # (n, ...)

    def dense(self, like: Tensor) -> Tensor:
        """The same gradient with its zeros, in the shape of `like`."""
        return torch.zeros_like(like).index_copy(0, self.rows, self.values)


class Softmax(nn.Module):
    """Logits x W^T + b over the vocabulary, shared by both directions."""

    def __init__(self, vocabulary_size: int, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(vocabulary_size, width))
        self.bias = nn.Parameter(torch.empty(vocabulary_size))

    def forward(self, hidden: Tensor, targets: Tensor) -> Tensor:
        """(n, P) vectors, (n,) ids -> cross-entropy (n,) over the complete vocabulary."""
        return F.cross_entropy(self.logits(hidden), targets, reduction="none")

    def logits(self, hidden: Tensor) -> Tensor:
        """(n, P) vectors -> (n, V) logits over the complete vocabulary."""
        return F.linear(hidden, self.weight, self.bias).float()

    def reset_parameters(self, generator: torch.Generator) -> None:
        """The paper's initialization."""
        nn.init.normal_(self.weight, 0.0, 1 / math.sqrt(self.weight.shape[1]), generator)
        nn.init.zeros_(self.bias)


class SampledSoftmax:
    """The few rows of a softmax that one window uses, gathered once for both directions.

    Only these rows get a gradient, so that the other words of the vocabulary cost nothing.
    """

    def __init__(
        self, softmax: Softmax, targets: Tensor, negatives: list[Negatives], *, fast: bool = True
    ) -> None:
        self._log_sum_exp = fast_log_sum_exp if fast else log_sum_exp
        device, size = targets.device, len(softmax.bias)
        drawn = [torch.from_numpy(negative.ids).to(device) for negative in negatives]
        wanted = targets.flatten(1)
        self.rows, places = torch.unique(torch.cat([wanted.flatten(), *drawn]), return_inverse=True)
        self.weight = softmax.weight.detach()[self.rows].requires_grad_()
        self.bias = softmax.bias.detach()[self.rows].requires_grad_()
        self._targets = places[: wanted.numel()].view_as(wanted)  # (2, n), into `rows`
        self._negatives = places[wanted.numel() :].view(2, -1)
        # The correction of a direction's logits, for each of the rows.
        self._corrections = [
            log_expected_count(self.rows, negative.draws, size).float() for negative in negatives
        ]

    def loss(self, hidden: Tensor, direction: int) -> Tensor:
        """(n, P) vectors of a direction -> cross-entropy (n,) with its negatives."""
        targets, negatives = self._targets[direction], self._negatives[direction]
        bias = self.bias - self._corrections[direction]
        true_weight = self.weight.index_select(0, targets)
        true = (hidden * true_weight).sum(dim=-1).float() + bias.index_select(0, targets)
        others = self._log_sum_exp(
            hidden,
            self.weight.index_select(0, negatives),
            bias.index_select(0, negatives),
            self._hits(targets, negatives),
        )
        return torch.logaddexp(true, others) - true

    def gradients(self) -> dict[str, RowGradient]:
        """The gradients after `backward`, under the names of a checkpoint."""
        assert self.weight.grad is not None and self.bias.grad is not None
        return {
            "softmax.weight": RowGradient(self.rows, self.weight.grad),
            "softmax.bias": RowGradient(self.rows, self.bias.grad),
        }

    def _hits(self, targets: Tensor, negatives: Tensor) -> tuple[Tensor, Tensor]:
        """Where a negative is the target itself, which must not count twice."""
        column_of = torch.full_like(self.rows, -1)
        column_of[negatives] = torch.arange(len(negatives), device=negatives.device)
        columns = column_of[targets]
        hits = torch.nonzero(columns >= 0).squeeze(1)
        return hits, columns[hits]


def log_sum_exp(x: Tensor, weight: Tensor, bias: Tensor, hits: tuple[Tensor, Tensor]) -> Tensor:
    """Log sum_k exp(x w_k + b_k) for every x, without the hits: (n, P), (m, P), (m,) -> (n,).

    Hits are pairs of a row of x and a column k. `elmo_deploy.fast.log_sum_exp` computes it faster.
    """
    logits = F.linear(x, weight).to(bias.dtype) + bias
    return logits.index_put(hits, logits.new_tensor(-math.inf)).logsumexp(dim=1)
