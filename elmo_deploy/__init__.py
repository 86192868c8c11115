"""ELMo from training to production: every public name of the three packages.

>>> from elmo_deploy import Checkpoint, Elmo, Embedder, demo_bundle, export, train, verify
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

import elmo_export
import elmo_runtime
from elmo_export.importers import register_importer

if TYPE_CHECKING:
    from elmo_deploy.api import export, verify
    from elmo_deploy.demo import demo_bundle
    from elmo_deploy.model.elmo import Elmo
    from elmo_deploy.training import evaluate, train
    from elmo_export import *  # noqa: F403
    from elmo_runtime import *  # noqa: F403

    __version__: str

__all__ = ["Elmo", "demo_bundle", "evaluate", "export", "train", "verify"]
__all__ += elmo_export.__all__
__all__ += elmo_runtime.__all__

register_importer("hdf5", "elmo_deploy.importers.bilm_hdf5:import_hdf5")

# Loaded at their first use: the command line shows its help without torch, onnx or numpy.
_MODULE_OF = {
    "ArtefactError": "elmo_runtime",  # deprecated
    **dict.fromkeys(elmo_runtime.__all__, "elmo_runtime"),
    **dict.fromkeys(elmo_export.__all__, "elmo_export"),
    "Elmo": "elmo_deploy.model",
    "demo_bundle": "elmo_deploy.demo",
    "evaluate": "elmo_deploy.training",
    "export": "elmo_deploy.api",
    "train": "elmo_deploy.training",
    "verify": "elmo_deploy.api",
}

# A type checker reads the imports above: with __getattr__, it would accept every name as Any.
if not TYPE_CHECKING:

    def __getattr__(name):
        if name == "__version__":
            return importlib.import_module("importlib.metadata").version("elmo-deploy")
        if name not in _MODULE_OF:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return getattr(importlib.import_module(_MODULE_OF[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_MODULE_OF, "__version__"})
