"""ELMo = gamma * sum_k softmax(w)_k layer_k (Peters et al. 2018, equation 1)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

LAYER_NORM_EPSILON = 1e-12  # bilm-tf's and AllenNLP's


class LayerMix(nn.Module):
    """N independent mixes over one biLM run; weights (N, layers) start at 0, gamma (N,) at 1.

    With do_layer_norm a sentence's vectors depend on its batch mates, who share the statistics.
    """

    def __init__(self, n_layers: int, *, n_mixes: int = 1, do_layer_norm: bool = False) -> None:
        super().__init__()
        self.weights = nn.Parameter(torch.zeros(n_mixes, n_layers))
        self.gamma = nn.Parameter(torch.ones(n_mixes))
        self.do_layer_norm = do_layer_norm

    def forward(self, layers: Sequence[Tensor], mask: Tensor) -> list[Tensor]:
        """Layers of (batch, length, 2P), mask (batch, length) -> one such tensor a mix."""
        if self.do_layer_norm:
            layers = [normalise(layer, mask) for layer in layers]
        return mix(layers, self.weights, self.gamma)

    def regulariser(self, coefficient: float) -> Tensor:
        """L2 on the weights alone (paper: 0.001 lets them vary, 1 keeps them near the mean)."""
        return coefficient * self.weights.square().sum()


def mix(layers: Sequence[Tensor], weights: Tensor, gamma: Tensor) -> list[Tensor]:
    """Layers of (batch, length, 2P), weights (N, layers), gamma (N,) -> N times such a layer."""
    shares = torch.softmax(weights, dim=-1)
    return [
        scale * sum(s * layer for s, layer in zip(share.unbind(), layers, strict=True))
        for share, scale in zip(shares, gamma, strict=True)
    ]


def normalise(layer: Tensor, mask: Tensor) -> Tensor:
    """One scalar mean and population variance over every real element of the batch.

    A batch without a real token has no statistics and stays 0.
    """
    real = mask.unsqueeze(-1).to(layer.dtype)
    count = (real.sum() * layer.shape[-1]).clamp(min=1)
    mean = (layer * real).sum() / count
    variance = ((layer - mean).square() * real).sum() / count
    return (layer - mean) * torch.rsqrt(variance + LAYER_NORM_EPSILON) * real
