"""Bundle -> embeddings. Needs numpy only; a backend is imported at its first use."""

from __future__ import annotations

import importlib
import warnings
from typing import TYPE_CHECKING, Any

from elmo_runtime.errors import (
    ArtifactError,
    BackendError,
    BackendFallbackWarning,
    BackendUnavailableError,
    BundleCorruptError,
    BundleError,
    BundleVersionError,
    BusyError,
    CheckpointError,
    ClosedError,
    ConfigError,
    DeviceMemoryError,
    ElmoDeployError,
    EngineError,
    EngineMismatchError,
    InputError,
    TextError,
    TextWarning,
    VerificationError,
    WeightsError,
)

if TYPE_CHECKING:
    from elmo_runtime.bundle.manifest import Bundle
    from elmo_runtime.config import ElmoConfig
    from elmo_runtime.embedder import Embedder
    from elmo_runtime.options import CpuOptions, GpuOptions, Limits
    from elmo_runtime.outputs import Embeddings, Output
    from elmo_runtime.state import State

__all__ = [
    "ArtifactError",
    "BackendError",
    "BackendFallbackWarning",
    "BackendUnavailableError",
    "Bundle",
    "BundleCorruptError",
    "BundleError",
    "BundleVersionError",
    "BusyError",
    "CheckpointError",
    "ClosedError",
    "ConfigError",
    "CpuOptions",
    "DeviceMemoryError",
    "ElmoConfig",
    "ElmoDeployError",
    "Embedder",
    "Embeddings",
    "EngineError",
    "EngineMismatchError",
    "GpuOptions",
    "InputError",
    "Limits",
    "Output",
    "State",
    "TextError",
    "TextWarning",
    "VerificationError",
    "WeightsError",
]

# Loaded at their first use, so that a command line which only prints its help needs no numpy.
_MODULE_OF = {
    "Bundle": "bundle.manifest",
    "CpuOptions": "options",
    "ElmoConfig": "config",
    "Embedder": "embedder",
    "Embeddings": "outputs",
    "GpuOptions": "options",
    "Limits": "options",
    "Output": "outputs",
    "State": "state",
}


def __getattr__(name: str) -> Any:
    if name == "ArtefactError":  # its name until version 0.1
        warnings.warn(f"{name} is now ArtifactError", DeprecationWarning, stacklevel=2)
        return ArtifactError
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_MODULE_OF[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_MODULE_OF})
