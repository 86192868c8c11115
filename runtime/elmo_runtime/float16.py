"""The range of FP16, for values that are computed, stored or cast in it."""

from __future__ import annotations

FP16_MAX = 65504.0  # the largest finite float16
