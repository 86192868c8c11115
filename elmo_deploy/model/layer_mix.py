"""ELMo = gamma * sum_k softmax(w)_k layer_k: equation 1 of https://arxiv.org/abs/1802.05365."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from elmo_runtime.errors import InputError
from elmo_runtime.mixes import LAYER_NORM_EPSILON


class LayerMix(nn.Module):
    """N independent mixes of the same layers; weights (N, layers) start at 0, gamma (N,) at 1.

    `do_layer_norm` decides whether a mix normalizes its layers first: one flag for all mixes or one
    per mix. The statistics are per sentence, so the result is batch-invariant. bilm-tf and AllenNLP
    compute them over the batch.
    """

    def __init__(
        self, n_layers: int, *, n_mixes: int = 1, do_layer_norm: bool | Sequence[bool] = False
    ) -> None:
        super().__init__()
        self.weights = nn.Parameter(torch.zeros(n_mixes, n_layers))
        self.gamma = nn.Parameter(torch.ones(n_mixes))
        flags = (do_layer_norm,) * n_mixes if isinstance(do_layer_norm, bool) else do_layer_norm
        if len(flags) != n_mixes:
            raise InputError(f"do_layer_norm has {len(flags)} flags for {n_mixes} layer mixes")
        self.do_layer_norm = tuple(flags)

    def forward(self, layers: Sequence[Tensor], mask: Tensor) -> list[Tensor]:
        """Layers of (batch, length, 2P), mask (batch, length) -> one such tensor per mix."""
        return mix(layers, mask, self.weights, self.gamma, self.do_layer_norm)

    def regularizer(self, coefficient: float) -> Tensor:
        """L2 of the weights, not of gamma. Paper: 0.001 lets them vary, 1 keeps them near equal."""
        return coefficient * self.weights.square().sum()


def mix(
    layers: Sequence[Tensor],
    mask: Tensor,
    weights: Tensor,
    gamma: Tensor,
    do_layer_norm: Sequence[bool],
) -> list[Tensor]:
    """Layers (batch, length, 2P), weights (N, layers), gamma (N,) -> N of (batch, length, 2P)."""
    normalized = [normalize(layer, mask) for layer in layers] if any(do_layer_norm) else []
    shares = torch.softmax(weights, dim=-1)
    return [
        scale * sum(s * x for s, x in zip(share, normalized if norm else layers, strict=True))
        for share, scale, norm in zip(shares, gamma, do_layer_norm, strict=True)
    ]


def normalize(layer: Tensor, mask: Tensor) -> Tensor:
    """(batch, length, 2P) -> the same with mean 0 and variance 1 over each sentence's real values.

    Each sentence has one scalar mean and one population variance. Sums are FP32 or wider, because
    in FP16 the number of values is infinite from 64 tokens of width 1024. A sentence without tokens
    stays 0.
    """
    x = layer.to(torch.promote_types(layer.dtype, torch.float32))
    real = mask.unsqueeze(-1).to(x.dtype)
    count = (real.sum(dim=(1, 2), keepdim=True) * x.shape[-1]).clamp(min=1)
    mean = (x * real).sum(dim=(1, 2), keepdim=True) / count
    variance = ((x - mean).square() * real).sum(dim=(1, 2), keepdim=True) / count
    normalized = (x - mean) * torch.rsqrt(variance + LAYER_NORM_EPSILON) * real
    return normalized.to(layer.dtype)
