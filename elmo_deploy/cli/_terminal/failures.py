"""An exception -> one line what, one line `hint:`, and the exit code."""

from __future__ import annotations

import re
import sys
from pathlib import Path

from elmo_runtime.errors import (
    ArtifactError,
    BackendUnavailableError,
    DeviceMemoryError,
    ElmoDeployError,
    InputError,
    VerificationError,
)
from elmo_runtime.files.storage import storage_error

UNEXPECTED, INTERRUPTED = 1, 130
_OUT_OF_MEMORY = re.compile(  # how torch, CUDA and C++ say it
    r"out of memory|not enough memory|bad_alloc|can't allocate memory", re.IGNORECASE
)

# Import name -> the extra that brings it.
EXTRAS = {
    "h5py": "hdf5",
    "matplotlib": "plots",
    "onnx": "export",
    "onnxruntime": "cpu",
    "pyarrow": "parquet",
    "sklearn": "demo",
    "tensorboard": "train",
    "tensorrt": "tensorrt",
    "tensorrt_rtx": "tensorrt-rtx",
    "torch": "export",
}
TRAINING = ("train", "evaluate")  # the commands for which torch comes with the extra "train"


def report_failure(error: BaseException, *, command: str = "") -> int:
    """Say on stderr what went wrong and how to mend it; returns the exit code."""
    if isinstance(error, KeyboardInterrupt):
        return INTERRUPTED
    known = as_ours(error, command=command)
    if known is None:
        _say("error", f"{type(error).__name__}: {error}")
        _say("hint", "this is unexpected; the same command with --debug shows the traceback")
        return UNEXPECTED
    what, details = known.what, ""
    if isinstance(known, VerificationError):  # it brings its table; a file name may hold \n too
        what, _, details = known.what.partition("\n")
    _say("error", what)
    if known.hint:
        _say("hint", known.hint)
    if details:
        print(details, file=sys.stderr)
    return known.exit_code


def as_ours(error: BaseException, *, command: str = "") -> ElmoDeployError | None:
    """The error of our tree that says the same, or None where there is none."""
    if isinstance(error, ElmoDeployError):
        return error
    if isinstance(error, ModuleNotFoundError):
        return _missing_package(error, command)
    if isinstance(error, OSError) and error.filename is not None:
        return ArtifactError(f"{error.filename}: {error.strerror}")
    if isinstance(error, OSError) and (full := storage_error(error, Path("standard output"))):
        return full  # our writers name their file
    if isinstance(error, MemoryError) or _OUT_OF_MEMORY.search(str(error)):
        return DeviceMemoryError(
            f"out of memory: {' '.join(str(error).split()) or type(error).__name__}",
            hint="use a smaller --token-budget, --batch or --length, or a machine with more memory",
        )
    if isinstance(error, UnicodeDecodeError):
        return InputError(f"the input is not UTF-8: {error.reason} at byte {error.start}")
    return None


def _missing_package(error: ModuleNotFoundError, command: str) -> ElmoDeployError | None:
    package = (error.name or "").partition(".")[0]
    if package not in EXTRAS:
        return None
    extra = "train" if package == "torch" and command in TRAINING else EXTRAS[package]
    return BackendUnavailableError(
        f"this command needs the package {package}, which is not installed",
        hint=f'pip install "elmo-deploy[{extra}]"',
    )


def _say(label: str, text: str) -> None:
    print(f"{label}: {' '.join(text.split())}", file=sys.stderr)
