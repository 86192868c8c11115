"""Convert an exception to one line with the problem, one line with a hint, and an exit code."""

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

UNEXPECTED, USAGE, INTERRUPTED = 1, 2, 130
_OUT_OF_MEMORY = re.compile(  # The words of torch, CUDA and C++.
    r"out of memory|not enough memory|bad_alloc|can't allocate memory", re.IGNORECASE
)

# Import name -> the extra that installs it.
EXTRAS = {
    "h5py": "hdf5",
    "matplotlib": "plots",
    "onnx": "export",
    "onnxruntime": "cpu",
    "pooch": "download",
    "pyarrow": "parquet",
    "sklearn": "demo",
    "tensorboard": "train",
    "tensorrt": "tensorrt",
    "tensorrt_rtx": "tensorrt-rtx",
    "torch": "export",
}
TRAINING = ("train", "evaluate")  # For these commands, the extra "train" installs torch.


def report_failure(error: BaseException, *, command: str = "") -> int:
    """Print the problem and its fix on stderr, and return the exit code."""
    if isinstance(error, KeyboardInterrupt):
        return INTERRUPTED
    if type(error).__name__ == "NoArgsIsHelpError":  # Its help text is printed already.
        return USAGE
    known = known_error(error, command=command)
    if known is None:
        _say("error", f"{type(error).__name__}: {error}")
        _say("hint", "this is a bug; rerun with --debug for the traceback, and please report it")
        return UNEXPECTED
    what, details = known.what, ""
    if isinstance(known, VerificationError):  # Its table follows. A file name may also contain \n.
        what, _, details = known.what.partition("\n")
    _say("error", what)
    if known.hint:
        _say("hint", known.hint)
    if details:
        print(details, file=sys.stderr)
    return known.exit_code


def known_error(error: BaseException, *, command: str = "") -> ElmoDeployError | None:
    """The corresponding error of elmo_runtime.errors, or None if there is none."""
    if isinstance(error, ElmoDeployError):
        return error
    if usage := _usage_error(error):
        return usage
    if isinstance(error, ModuleNotFoundError):
        return _missing_package(error, command)
    if isinstance(error, OSError) and error.filename is not None:
        return ArtifactError(f"{error.filename}: {error.strerror}")
    if isinstance(error, OSError) and (full := storage_error(error, Path("standard output"))):
        return full  # Other writers name their file.
    if isinstance(error, MemoryError) or _OUT_OF_MEMORY.search(str(error)):
        return DeviceMemoryError(
            f"out of memory: {' '.join(str(error).split()) or type(error).__name__}",
            hint="use a smaller --token-budget, --batch or --length, or a machine with more memory",
        )
    if isinstance(error, UnicodeDecodeError):
        return InputError(f"the input is not UTF-8: {error.reason} at byte {error.start}")
    return None


def _usage_error(error: BaseException) -> InputError | None:
    """The error of a command line that cannot be parsed, or None for other errors.

    Typer contains its own copy of click, so the error is recognized by its attributes.
    """
    if not hasattr(error, "format_message") or getattr(error, "exit_code", None) != USAGE:
        return None
    what = error.format_message()
    context = getattr(error, "ctx", None)
    command = context.command_path if context else "elmo-deploy"
    hint = f"see {command} --help"
    if "unexpected extra argument" in what:
        hint = (
            f"put patterns in quotes, as in '*.txt', so that the shell does not expand them; {hint}"
        )
    return InputError(what.rstrip("."), hint=hint)


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
