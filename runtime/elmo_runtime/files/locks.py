"""A lock file with its process and host, which keeps two writers of one target apart.

The flock of the kernel decides who holds the lock, so that a lock ends with its process. The text
in the file is for error messages; it decides only if the file system has no flock.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from elmo_runtime.errors import ArtifactError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

_NO_FLOCK = (errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOLCK, errno.EINVAL)
_PAUSE = 0.02  # seconds between two attempts


@contextlib.contextmanager
def locked(path: Path, *, target: Path, wait: float = 0.0) -> Iterator[None]:
    """Hold the lock file `path`, which guards `target`, and remove it at the end.

    Raises ArtifactError when another writer still holds it after `wait` seconds. The lock of a
    process that has ended is taken over.
    """
    handle = acquire(path, target=target, wait=wait)
    try:
        yield
    finally:
        release(path, handle)


def acquire(path: Path, *, target: Path, wait: float = 0.0) -> int:
    """As `locked`, but return the descriptor that holds the lock until `release`."""
    deadline = time.monotonic() + wait
    while True:
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            if _take(handle, path):
                _sign(handle, path)
                return handle
            owner = _owner(handle)
        except BaseException:
            os.close(handle)
            raise
        os.close(handle)
        if time.monotonic() >= deadline:
            raise _busy(path, target, owner)
        time.sleep(_PAUSE)


def release(path: Path, handle: int) -> None:
    """Remove the lock file, then release it."""
    path.unlink(missing_ok=True)
    os.close(handle)


def _take(handle: int, path: Path) -> bool:
    try:
        if fcntl is None:
            return _is_abandoned(_owner(handle))
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno not in _NO_FLOCK:
            raise
        return _is_abandoned(_owner(handle))
    try:  # the last holder may have removed the file between our open and our flock
        return os.path.samestat(os.fstat(handle), path.stat())
    except FileNotFoundError:
        return False


def _sign(handle: int, path: Path) -> None:
    text = json.dumps({"pid": os.getpid(), "host": socket.gethostname()})
    try:
        os.ftruncate(handle, 0)
        os.pwrite(handle, text.encode(), 0)
    except OSError:  # the disk is full
        path.unlink(missing_ok=True)
        raise


def _owner(handle: int) -> dict[str, Any]:
    """The process and the host in the file; empty if it contains neither."""
    try:
        owner = json.loads(os.pread(handle, 4096, 0))
        return {"pid": int(owner["pid"]), "host": str(owner["host"])}
    except (ValueError, KeyError, TypeError, OverflowError):
        return {}


def _is_abandoned(owner: dict[str, Any]) -> bool:
    if not owner:
        return True
    if owner["host"] != socket.gethostname() or os.name != "posix":
        return False
    try:
        os.kill(owner["pid"], 0)
    except ProcessLookupError:
        return True
    except (PermissionError, OverflowError):
        return False
    return False


def _busy(path: Path, target: Path, owner: dict[str, Any]) -> ArtifactError:
    who = f"process {owner['pid']} on {owner['host']}" if owner else "another process"
    return ArtifactError(
        f"{target} is being written by {who}",
        hint=f"wait for it, stop it, or write elsewhere; if it has ended, remove {path}",
    )
