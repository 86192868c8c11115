"""Every error that elmo-deploy raises on purpose, in one tree.

ElmoDeployError                 exit code 1
├── InputError (ValueError)                2   sentences, ids, shapes or options of the caller
├── VerificationError                      3   a graph or an engine computes wrong values
├── BackendUnavailableError                4   its library, driver, provider or graph is missing
├── ArtifactError                          5   a file on disk is missing, corrupt or incompatible
│   ├── ConfigError                            options.json / config.json
│   ├── WeightsError                           foreign weights (HDF5, ...)
│   ├── CheckpointError                        config.json + model.safetensors
│   ├── TextError                              a text file is not lines of UTF-8
│   ├── BundleError
│   │   ├── BundleCorruptError                 a digest, a size or the list of files differs
│   │   └── BundleVersionError                 complete, but of another schema, opset or shape
│   └── EngineError
│       └── EngineMismatchError                built for another GPU, library or graph
├── BackendError                           1   the backend failed while it computed
│   └── DeviceMemoryError                      ... without enough device memory
├── BusyError                              1   too many calls wait, or one waited too long
└── ClosedError                            1   the embedder was closed, or forked after loading

BackendFallbackWarning (UserWarning): a slower backend is in use; the text gives the reason and the
fix.
TextWarning (UserWarning): tokens contain white space, so the text was probably not split as
intended.
"""

from __future__ import annotations

from typing import ClassVar


class ElmoDeployError(Exception):
    """Base of all errors: what happened, the values; `hint` says what to do."""

    exit_code: ClassVar[int] = 1

    def __init__(self, what: str, *, hint: str = "") -> None:
        super().__init__(what)
        self.what = what
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.what}; {self.hint}" if self.hint else self.what


class InputError(ElmoDeployError, ValueError):
    """The caller passed a value that has no meaning."""

    exit_code = 2


class VerificationError(ElmoDeployError):
    """A graph or an engine differs from the reference by more than its tolerance."""

    exit_code = 3


class BackendUnavailableError(ElmoDeployError):
    """The requested backend cannot run on this machine."""

    exit_code = 4


class ArtifactError(ElmoDeployError):
    """A file on disk is missing, corrupt or incompatible."""

    exit_code = 5


class ConfigError(ArtifactError):
    """The ELMo options cannot be understood."""


class WeightsError(ArtifactError):
    """Foreign weights are incomplete, of the wrong shape or unreadable."""


class CheckpointError(ArtifactError):
    """A checkpoint is missing, incomplete or unreadable."""


class TextError(ArtifactError):
    """A text file cannot be read as lines of UTF-8."""


class BundleError(ArtifactError):
    """A bundle cannot be used."""


class BundleCorruptError(BundleError):
    """A file of the bundle is missing, unexpected or changed."""


class BundleVersionError(BundleError):
    """The bundle is complete but was made for another version of this library."""


class EngineError(ArtifactError):
    """An engine could not be built or opened."""


class EngineMismatchError(EngineError):
    """The engine was built for another GPU, another library version or another graph."""


class BackendError(ElmoDeployError):
    """The backend failed while it computed."""


class DeviceMemoryError(BackendError):
    """The device has too little memory for this batch."""


class BusyError(ElmoDeployError):
    """The embedder has as many calls as its limits allow."""


class ClosedError(ElmoDeployError):
    """The embedder cannot be used any more."""


class BackendFallbackWarning(UserWarning):
    """A slower backend than the best one is in use."""


class TextWarning(UserWarning):
    """Tokens contain white space: the text was probably not split as intended."""
