"""Checkpoint -> graphs -> bundle -> engines. `elmo_deploy` re-exports every public name."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from elmo_export.checkpoint import Checkpoint
    from elmo_export.engines.build import EngineReport, build_engine
    from elmo_export.export import export_bundle, verify_bundle
    from elmo_export.verify.parity import ParityRow
    from elmo_export.verify.recover import recover_checkpoint

__all__ = [
    "Checkpoint",
    "EngineReport",
    "ParityRow",
    "build_engine",
    "export_bundle",
    "recover_checkpoint",
    "verify_bundle",
]

# Loaded at their first use: a checkpoint can be read and written without onnx.
_MODULE_OF = {
    "Checkpoint": "checkpoint",
    "EngineReport": "engines.build",
    "ParityRow": "verify.parity",
    "build_engine": "engines.build",
    "export_bundle": "export",
    "recover_checkpoint": "verify.recover",
    "verify_bundle": "export",
}


# A type checker reads the imports above: with __getattr__, it would accept every name as Any.
if not TYPE_CHECKING:

    def __getattr__(name):
        if name not in _MODULE_OF:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return getattr(importlib.import_module(f"{__name__}.{_MODULE_OF[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_MODULE_OF})
