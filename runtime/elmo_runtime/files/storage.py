"""Disk full, quota, file size limit -> one error that names the path and the fix."""

from __future__ import annotations

import contextlib
import errno
import re
from collections.abc import Iterator
from pathlib import Path

from elmo_runtime.errors import ArtifactError, ElmoDeployError

# errno -> what happened, what to do
_REASONS = {
    errno.ENOSPC: ("no space is left on the disk", "free some space there"),
    errno.EDQUOT: ("the disk quota is used up", "free some space there, or request a larger quota"),
    errno.EFBIG: ("the file size limit is reached", "raise the limit (ulimit -f)"),
    errno.EIO: ("the disk reports an input/output error", "check the disk"),
    errno.EROFS: ("the file system is read-only", "mount it for writing"),
}
# Rust ("os error 28", safetensors) and HDF5 ("errno = 28") give the number in the text only.
_NUMBER_IN_TEXT = re.compile(r"\bos error (\d+)|\berrno = (\d+)")


@contextlib.contextmanager
def storage_errors(target: Path) -> Iterator[None]:
    """Convert the errors of a full or failing disk to ArtifactError for `target`."""
    try:
        yield
    except ElmoDeployError:
        raise
    except Exception as error:
        if (ours := storage_error(error, target)) is None:
            raise
        raise ours from error


@contextlib.contextmanager
def write_errors(target: Path) -> Iterator[None]:
    """Convert every OSError to ArtifactError for `target`; for blocks that do nothing but write."""
    with storage_errors(target):
        try:
            yield
        except OSError as error:
            if error.errno in _REASONS:
                raise
            raise ArtifactError(
                f"{target} cannot be written: {error.strerror or error}",
                hint="check the path and its permissions, or write to another place",
            ) from error


def storage_error(error: BaseException, target: Path) -> ArtifactError | None:
    """The ArtifactError of a full or failing disk; None when `error` is something else."""
    number = _number(error)
    if number not in _REASONS:
        return None
    reason, fix = _REASONS[number]
    return ArtifactError(
        f"{target} cannot be written: {reason}",
        hint=f"{fix} or write to another disk, then run the same command again",
    )


def _number(error: BaseException) -> int | None:
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno
    found = _NUMBER_IN_TEXT.search(str(error))
    return int(found[1] or found[2]) if found else None
