"""Checkpoint -> graphs -> engines -> bundle."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from elmo_export.checkpoint import Checkpoint
    from elmo_export.engine import build_engine
    from elmo_export.package import export_bundle, verify_bundle
    from elmo_export.parity import ParityRow
    from elmo_export.recover import recover_checkpoint

__all__ = [
    "Checkpoint",
    "ParityRow",
    "build_engine",
    "export_bundle",
    "recover_checkpoint",
    "verify_bundle",
]

# Loaded at their first use: a checkpoint can be read and written where onnx is not installed.
_MODULE_OF = {
    "Checkpoint": "checkpoint",
    "ParityRow": "parity",
    "build_engine": "engine",
    "export_bundle": "package",
    "recover_checkpoint": "recover",
    "verify_bundle": "package",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_MODULE_OF[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_MODULE_OF})
