"""The compiled operators for ONNX Runtime's CPU provider: one layer of the biLM in one call.

The library is built with the package where a C++ compiler is at hand (hatch_build.py). Without it,
or on a processor without AVX2, graphs run on stock operators: the same vectors to seven digits,
but not to the last bit.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

LIBRARY = Path(__file__).with_name("libpacked_lstmp.so")


def register_operators(settings: Any) -> str | None:
    """Give the operators to onnxruntime's SessionOptions; the reason if they cannot be used."""
    if not LIBRARY.exists():
        return "not built when elmo-deploy was installed"
    try:
        settings.register_custom_ops_library(str(LIBRARY))
    except Exception as error:  # onnxruntime's classes have no base of their own
        return f"refused: {error}"
    return None
