"""The device of a model."""

from __future__ import annotations

import torch
import torch.distributed as dist

from elmo_runtime.errors import BackendUnavailableError, InputError


def choose_device(name: str) -> torch.device:
    """Return the torch device; `auto` is the GPU of this process if there is one, else the CPU.

    Raises InputError for a name that torch does not know, and BackendUnavailableError for `cuda`
    without a GPU.
    """
    if name == "auto":
        if not torch.cuda.is_available():
            return torch.device("cpu")
        return torch.device("cuda", dist.get_node_local_rank(fallback_rank=0))
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise InputError(f"device {name!r} is unknown", hint="use auto, cpu or cuda") from error
    if device.type == "cuda" and not torch.cuda.is_available():
        raise BackendUnavailableError("torch finds no CUDA device", hint="use cpu")
    return device
