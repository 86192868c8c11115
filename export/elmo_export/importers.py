"""Where `Checkpoint` finds the readers of other formats, which packages above this one register."""

from __future__ import annotations

import pkgutil
from collections.abc import Callable
from typing import Any

from elmo_runtime.errors import CheckpointError

_IMPORTERS: dict[str, str] = {}


def register_importer(name: str, function: str) -> None:
    """Name the function, as "module:function", that reads a format; it is imported when used."""
    _IMPORTERS[name] = function


def find_importer(name: str) -> Callable[..., Any]:
    """The function that reads a format into a checkpoint. Raises CheckpointError without one."""
    if name not in _IMPORTERS:
        raise CheckpointError(
            f"no importer for {name} is registered", hint="import elmo_deploy, which registers it"
        )
    function: Callable[..., Any] = pkgutil.resolve_name(_IMPORTERS[name])
    return function
