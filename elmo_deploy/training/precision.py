"""Matrix products in bf16 or fp16, and the loss scale that keeps fp16 gradients above zero."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass

import torch
from torch import Tensor

DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


def products_in(precision: str, device: torch.device) -> contextlib.AbstractContextManager[object]:
    """The context in which matrix products use `precision`; everything else stays in fp32."""
    if precision == "fp32":
        return contextlib.nullcontext()
    return torch.autocast(device.type, dtype=DTYPES[precision])


@dataclass
class LossScale:
    """A factor on the loss: halved when a gradient overflows, doubled after many good steps."""

    value: float
    good_steps: int = 0

    PATIENCE = 2000

    @classmethod
    def start(cls, precision: str) -> LossScale:
        """Start at 1, which changes nothing, except in fp16."""
        return cls(65536.0 if precision == "fp16" else 1.0)

    def accept(self, norm: Tensor) -> bool:
        """Whether to take the step; adapt the scale. Only fp16 checks the norm."""
        if self.value == 1.0:
            return True
        if not torch.isfinite(norm):
            self.value, self.good_steps = max(self.value / 2, 2.0), 0
            return False
        self.good_steps += 1
        if self.good_steps == self.PATIENCE:
            self.value, self.good_steps = self.value * 2, 0
        return True
