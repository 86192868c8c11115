"""The range of FP16, for what is computed in it, stored in it or cast to it."""

from __future__ import annotations

FP16_MAX = 65504.0  # the largest finite float16
