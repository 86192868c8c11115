"""The line of the user's program that a warning belongs to."""

from __future__ import annotations

import sys

PACKAGE = __name__.partition(".")[0]


def user_stacklevel() -> int:
    """The `stacklevel` for a `warnings.warn` in the calling function: the first line outside."""
    # skip_file_prefixes of warnings.warn does the same from Python 3.12 on.
    frame, level = sys._getframe(1), 1
    while frame.f_back is not None and _is_ours(frame.f_globals.get("__name__", "")):
        frame, level = frame.f_back, level + 1
    return level


def _is_ours(module: str) -> bool:
    return module.partition(".")[0] == PACKAGE
