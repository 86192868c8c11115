"""Which engines may be opened: a plan is native code, so its origin must be known.

An engine is trusted if the caller passed its digest (the SHA-256 of its engine.json, which lists
the digests of its plans), or if the ledger contains it: the list of engines that this user built on
this machine.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Collection
from pathlib import Path

LEDGER = Path("elmo-deploy") / "engines.txt"
_DIGEST = re.compile(r"[0-9a-f]{64}")


def ledger_path() -> Path:
    """$XDG_STATE_HOME/elmo-deploy/engines.txt, by default below ~/.local/state."""
    state = os.environ.get("XDG_STATE_HOME", "")
    if not Path(state).is_absolute():  # the XDG specification: ignore an empty or relative path
        state = str(Path.home() / ".local" / "state")
    return Path(state) / LEDGER


def record_built_here(digest: str, ledger: Path | None = None) -> None:
    """Add an engine to the ledger, as one line in one write.

    Raises OSError, or RuntimeError if this user has no home directory.
    """
    path = ledger or ledger_path()
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW
    handle = os.open(path, flags, 0o600)
    try:
        os.write(handle, f"{digest}\n".encode())
    finally:
        os.close(handle)


def is_trusted(digest: str, handed_in: Collection[str] = (), *, ledger: Path | None = None) -> bool:
    """Whether an engine with this digest may be opened."""
    if digest in handed_in:
        return True
    try:
        return digest in _built_here(ledger or ledger_path())
    except RuntimeError:  # this user has no home directory, so there is no ledger
        return False


def _built_here(ledger: Path) -> frozenset[str]:
    """The digests of the ledger; none if another user could have written it."""
    try:
        status = ledger.lstat()
        if not stat.S_ISREG(status.st_mode) or status.st_uid != os.getuid():
            return frozenset()
        if status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            return frozenset()
        return frozenset(_DIGEST.findall(ledger.read_text("ascii", errors="replace")))
    except (OSError, UnicodeDecodeError):
        return frozenset()
