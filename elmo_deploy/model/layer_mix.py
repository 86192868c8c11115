"""ELMo = gamma * sum_k softmax(w)_k layer_k (Peters et al. 2018, equation 1)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class LayerMix(nn.Module):
    """N independent mixes over one biLM run; weights (N, layers) start at 0, gamma (N,) at 1."""

    def __init__(self, n_layers: int, *, n_mixes: int = 1, do_layer_norm: bool = False) -> None:
        super().__init__()
        self.weights = nn.Parameter(torch.zeros(n_mixes, n_layers))
        self.gamma = nn.Parameter(torch.ones(n_mixes))
        self.do_layer_norm = do_layer_norm

    def forward(self, layers: Sequence[Tensor], mask: Tensor) -> list[Tensor]:
        """Layers of (batch, length, 2P), mask (batch, length) -> one such tensor a mix."""
        if self.do_layer_norm:
            layers = [normalise(layer, mask) for layer in layers]
        shares = torch.softmax(self.weights, dim=-1)
        return [
            gamma * sum(w * layer for w, layer in zip(share.unbind(), layers, strict=True))
            for share, gamma in zip(shares, self.gamma, strict=True)
        ]

    def regulariser(self, coefficient: float) -> Tensor:
        """L2 on the weights alone (paper: 0.001 lets them vary, 1 keeps them near the mean)."""
        return coefficient * self.weights.square().sum()


def normalise(layer: Tensor, mask: Tensor) -> Tensor:
    """One scalar mean and population variance over every real element of the batch."""
    real = mask.unsqueeze(-1).to(layer.dtype)
    count = real.sum() * layer.shape[-1]
    mean = (layer * real).sum() / count
    variance = ((layer - mean).square() * real).sum() / count
    return (layer - mean) * torch.rsqrt(variance + 1e-12) * real
