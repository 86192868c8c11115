"""The compiler of an engine, and the GPU generation: that of this machine, or a named one."""

from __future__ import annotations

import re

from elmo_runtime.backends.tensorrt.cuda import Device
from elmo_runtime.backends.tensorrt.library import Library, load_library
from elmo_runtime.errors import BackendUnavailableError, InputError


def choose_library(compiler: str, compute_capability: str | None) -> Library:
    """The library of a compiler. "auto" is TensorRT-RTX for a GPU that is not in this machine.

    TensorRT builds only for the GPU of this machine.

    Raises BackendUnavailableError with the extra to install.
    """
    if compiler == "auto" and compute_capability is not None:
        here = local_gpu()
        if here != parse_capability(compute_capability):
            return load_library("tensorrt-rtx")
    return load_library(compiler)


def choose_gpu(library: Library, compute_capability: str | None) -> str:
    """The compute capability to build for. Raises InputError if none is given or possible."""
    here = local_gpu()
    if compute_capability is None:
        if here is None:
            raise InputError(
                "this machine has no NVIDIA GPU to build for",
                hint="name its generation, for example --compute-capability 8.6",
            )
        return here
    wanted = parse_capability(compute_capability)
    if wanted != here and not library.builds_for_other_gpus:
        raise InputError(
            f"{library.flavour} builds for this machine's GPU ({here or 'none'}), not for {wanted}",
            hint="leave out --compute-capability, or use --compiler tensorrt-rtx",
        )
    return wanted


def local_gpu() -> str | None:
    """The compute capability of this machine's GPU, or None if it has none that can be used."""
    try:
        return Device.open().compute_capability
    except BackendUnavailableError:
        return None


def parse_capability(text: str) -> str:
    """8.6, 86 or sm86 -> 8.6. Raises InputError."""
    match = re.fullmatch(r"(?:sm_?)?(\d{1,2})\.?(\d)", text.strip().lower())
    if match is None:
        raise InputError(f"{text!r} is not a compute capability", hint="write it as in 8.6")
    return f"{match[1]}.{match[2]}"
