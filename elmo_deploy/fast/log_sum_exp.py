"""The sum over the sampled words of a softmax, in which the (n, m) matrix is made only once.

`elmo_deploy.training.softmax.log_sum_exp` is the definition. The matrix is the largest one of a
training step. Its derivative, the softmax, is never formed but folded into the matrix products.
"""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable


def fast_log_sum_exp(
    x: Tensor, weight: Tensor, bias: Tensor, hits: tuple[Tensor, Tensor]
) -> Tensor:
    """Log sum_k exp(x w_k + b_k) for every x, without the hits: (n, P), (m, P), (m,) -> (n,)."""
    total: Tensor = LogSumExp.apply(x, weight, bias, hits)  # type: ignore[no-untyped-call]
    return total


class LogSumExp(torch.autograd.Function):
    """The function and its gradient by x, weight and bias."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, hits: tuple[Tensor, Tensor]
    ) -> Tensor:
        """Under autocast the product uses its type, the rest that of the bias."""
        logits = F.linear(x, weight).to(bias.dtype).add_(bias)
        logits[hits] = -math.inf
        top = logits.amax(dim=1, keepdim=True)
        powers = logits.sub_(top).exp_()
        total = powers.sum(dim=1)
        ctx.save_for_backward(x, weight, powers, total)
        return total.log().add_(top.squeeze(1))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        """The softmax is powers / total; the narrow factor of each product is scaled instead."""
        x, weight, powers, total = ctx.saved_tensors
        scale = (gradient / total).unsqueeze(1)
        d_x = (powers @ weight.to(powers.dtype)) * scale
        d_weight = powers.t() @ (x.to(powers.dtype) * scale)
        d_bias = (powers.t() @ scale).squeeze(1)
        return d_x.to(x.dtype), d_weight.to(weight.dtype), d_bias, None
