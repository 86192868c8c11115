"""A pickled state dict of torch -> arrays, without running code.

torch reads the pickle with `weights_only`, which refuses everything but tensors and containers.
"""

from __future__ import annotations

import pickle
import warnings
import zipfile
import zlib
from pathlib import Path

import torch

from elmo_deploy.importers.weight_layout import Array
from elmo_runtime.errors import WeightsError

MAX_EXPANSION = 16  # torch stores tensors without compression.


def read_torch_weights(path: Path) -> dict[str, Array]:
    """Every dense tensor of floating-point numbers in the file. Raises WeightsError."""
    _refuse_expansion(path)
    try:
        with warnings.catch_warnings(action="ignore"):  # It warns of pickles that it then refuses.
            state = torch.load(path, map_location="cpu", weights_only=True)
        if not isinstance(state, dict):
            raise WeightsError(f"{path} contains {type(state).__name__}, must be a state dict")
        return {
            str(name): tensor.detach().to(torch.float32).numpy()
            for name, tensor in state.items()
            if _is_plain(tensor, limit=MAX_EXPANSION * path.stat().st_size)
        }
    # torch raises any of these for a file that is truncated, corrupt or not of torch.
    except (
        *(pickle.UnpicklingError, OSError, EOFError, RuntimeError, ValueError, TypeError),
        *(KeyError, IndexError, AttributeError, AssertionError, OverflowError, MemoryError),
    ) as error:
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise WeightsError(
            f"{path} cannot be read as weights of torch: {reason}",
            hint="a pickle that contains code is refused; compare the archive with the original",
        ) from error


def _is_plain(tensor: object, limit: int) -> bool:
    """Whether this is a dense tensor of floating-point numbers of at most `limit` bytes."""
    return (
        isinstance(tensor, torch.Tensor)
        and tensor.layout == torch.strided
        and tensor.device.type == "cpu"
        and tensor.is_floating_point()
        and tensor.numel() * tensor.element_size() <= limit
    )


def _refuse_expansion(path: Path) -> None:
    """Raise WeightsError for a zip that unpacks to far more bytes than it has."""
    if not zipfile.is_zipfile(path):
        return
    try:
        with zipfile.ZipFile(path) as file:
            unpacked = sum(member.file_size for member in file.infolist())
    except (zipfile.BadZipFile, OSError, ValueError, zlib.error) as error:
        raise WeightsError(f"{path} cannot be read as weights of torch: {error}") from error
    if unpacked > MAX_EXPANSION * path.stat().st_size:
        raise WeightsError(f"{path} unpacks to {unpacked} bytes, far beyond its size")
