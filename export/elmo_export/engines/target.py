"""Which library builds, and for which GPU generation: the one at hand, or one that was named."""

from __future__ import annotations

import re

from elmo_runtime.backends.tensorrt.cuda import Device
from elmo_runtime.backends.tensorrt.library import Library, load_library
from elmo_runtime.errors import BackendUnavailableError, InputError


def choose_library(flavour: str, compute_capability: str | None) -> Library:
    """TensorRT builds only for the GPU at hand; "auto" takes TensorRT-RTX for any other.

    Raises BackendUnavailableError naming the extra to install.
    """
    if flavour == "auto" and compute_capability is not None:
        here = gpu_at_hand()
        if here != parse_capability(compute_capability):
            return load_library("tensorrt-rtx")
    return load_library(flavour)


def choose_gpu(library: Library, compute_capability: str | None) -> str:
    """The compute capability to build for. Raises InputError where there is none."""
    here = gpu_at_hand()
    if compute_capability is None:
        if here is None:
            raise InputError(
                "there is no NVIDIA GPU here to build for",
                hint="name its generation, for example --compute-capability 8.6",
            )
        return here
    wanted = parse_capability(compute_capability)
    if wanted != here and not library.builds_for_other_gpus:
        raise InputError(
            f"{library.flavour} builds for the GPU at hand ({here or 'none'}), not for {wanted}",
            hint="leave out --compute-capability, or use --compiler tensorrt-rtx",
        )
    return wanted


def gpu_at_hand() -> str | None:
    """The compute capability of the GPU of this machine, or None where none can be used."""
    try:
        return Device.open().compute_capability
    except BackendUnavailableError:
        return None


def parse_capability(text: str) -> str:
    """8.6, 86 or sm86 -> 8.6."""
    match = re.fullmatch(r"(?:sm_?)?(\d{1,2})\.?(\d)", text.strip().lower())
    if match is None:
        raise InputError(f"{text!r} is no compute capability", hint="write for example 8.6")
    return f"{match[1]}.{match[2]}"
