"""Token vectors -> one vector a sentence, as version 3 of the TF Hub module."""

from __future__ import annotations

from torch import Tensor


def mean_over_tokens(vectors: Tensor, mask: Tensor) -> Tensor:
    """(batch, length, D), mask (batch, length) -> (batch, D); a sentence of no tokens gives 0."""
    real = mask.unsqueeze(-1).to(vectors.dtype)
    return (vectors * real).sum(dim=1) / real.sum(dim=1).clamp(min=1)
