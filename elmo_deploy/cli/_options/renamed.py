"""Options with old names, which are accepted for one release with a warning."""

from __future__ import annotations

import warnings
from typing import TypeVar

from elmo_runtime.errors import InputError

T = TypeVar("T")


def renamed(old: str, old_value: T | None, new: str, new_value: T | None) -> T | None:
    """The value of an option that has an old name.

    The old name warns; both names together raise InputError.
    """
    if old_value is None:
        return new_value
    if new_value is not None:
        raise InputError(f"{old} is the old name of {new}", hint=f"give {new} only")
    warnings.warn(
        f"{old} is now called {new}; the next release removes the old name",
        FutureWarning,
        stacklevel=2,
    )
    return old_value
