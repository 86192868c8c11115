"""AllenNLP's layer mix. Its layer norm takes the statistics over the entire batch."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

TINY = 1e-13  # AllenNLP's epsilon for float32


class ScalarMix(nn.Module):
    """gamma * sum_k softmax(scalar_parameters)_k tensor_k, with AllenNLP's parameter names."""

    def __init__(
        self,
        mixture_size: int,
        do_layer_norm: bool = False,
        initial_scalar_parameters: Sequence[float] | None = None,
        trainable: bool = True,
    ) -> None:
        super().__init__()
        self.do_layer_norm = do_layer_norm
        values = initial_scalar_parameters or [0.0] * mixture_size
        if len(values) != mixture_size:
            raise ValueError(f"{len(values)} scalar parameters are given for {mixture_size} layers")
        self.scalar_parameters = nn.ParameterList(
            nn.Parameter(torch.tensor([float(value)]), requires_grad=trainable) for value in values
        )
        self.gamma = nn.Parameter(torch.tensor([1.0]), requires_grad=trainable)

    def forward(self, tensors: Sequence[Tensor], mask: Tensor | None = None) -> Tensor:
        """Layers of (batch, length, width), mask (batch, length) for the layer norm -> the mix."""
        weights = torch.softmax(torch.cat(list(self.scalar_parameters)), dim=0)
        if self.do_layer_norm:
            if mask is None:
                raise ValueError("the layer norm needs a mask")
            tensors = [_normalize(tensor, mask.unsqueeze(-1)) for tensor in tensors]
        mixed: Tensor = sum(
            (w * x for w, x in zip(weights, tensors, strict=True)), torch.zeros_like(tensors[0])
        )
        return self.gamma * mixed


def _normalize(tensor: Tensor, mask: Tensor) -> Tensor:
    """Mean 0 and variance 1 over every real value of the batch, boundary tokens included."""
    count = mask.sum() * tensor.shape[-1]
    mean = (tensor * mask).sum() / count
    variance = ((tensor * mask - mean) * mask).square().sum() / count
    return (tensor - mean) / torch.sqrt(variance + TINY)
