"""Token vectors -> one vector per sentence, as in version 3 of the TF Hub module."""

from __future__ import annotations

import torch
from torch import Tensor


def mean_over_tokens(vectors: Tensor, mask: Tensor) -> Tensor:
    """(batch, length, D), mask (batch, length) -> (batch, D); a sentence without tokens gives 0.

    Sums are FP32 or wider, because in FP16 the sum over a long sentence overflows.
    """
    x = vectors.to(torch.promote_types(vectors.dtype, torch.float32))
    real = mask.unsqueeze(-1).to(x.dtype)
    mean = (x * real).sum(dim=1) / real.sum(dim=1).clamp(min=1)
    return mean.to(vectors.dtype)
