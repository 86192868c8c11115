"""The reference model, its training and the command line; re-exports the runtime and the export.

>>> from elmo_deploy import Checkpoint, Elmo, Embedder, export_bundle, train
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

import elmo_export
import elmo_runtime

if TYPE_CHECKING:
    from elmo_deploy.model.elmo import Elmo
    from elmo_deploy.training import evaluate, train
    from elmo_export import *  # noqa: F403
    from elmo_runtime import *  # noqa: F403

__all__ = ["Elmo", "evaluate", "train"]
__all__ += elmo_export.__all__
__all__ += elmo_runtime.__all__

# Loaded at their first use: the command line shows its help without torch, onnx or numpy.
_MODULE_OF = {
    "ArtefactError": "elmo_runtime",  # deprecated
    **dict.fromkeys(elmo_runtime.__all__, "elmo_runtime"),
    **dict.fromkeys(elmo_export.__all__, "elmo_export"),
    "Elmo": "elmo_deploy.model",
    "evaluate": "elmo_deploy.training",
    "train": "elmo_deploy.training",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_MODULE_OF[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_MODULE_OF})
