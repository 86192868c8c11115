"""Bundle -> embeddings. Needs numpy only; a backend is imported at its first use."""

from __future__ import annotations

from elmo_runtime.bundle import Bundle
from elmo_runtime.config import ElmoConfig
from elmo_runtime.embedder import Embedder
from elmo_runtime.errors import (
    ArtefactError,
    BackendError,
    BackendFallbackWarning,
    BackendUnavailableError,
    BundleCorruptError,
    BundleError,
    BundleVersionError,
    CheckpointError,
    ClosedError,
    ConfigError,
    DeviceMemoryError,
    ElmoDeployError,
    EngineError,
    EngineMismatchError,
    InputError,
    VerificationError,
    WeightsError,
)
from elmo_runtime.outputs import Embeddings, Output
from elmo_runtime.state import State

__all__ = [
    "ArtefactError",
    "BackendError",
    "BackendFallbackWarning",
    "BackendUnavailableError",
    "Bundle",
    "BundleCorruptError",
    "BundleError",
    "BundleVersionError",
    "CheckpointError",
    "ClosedError",
    "ConfigError",
    "DeviceMemoryError",
    "ElmoConfig",
    "ElmoDeployError",
    "Embedder",
    "Embeddings",
    "EngineError",
    "EngineMismatchError",
    "InputError",
    "Output",
    "State",
    "VerificationError",
    "WeightsError",
]
