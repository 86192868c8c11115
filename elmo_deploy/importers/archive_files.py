"""The files of a model, in a directory, a .tar.gz or a .zip, by their relative names.

Members are unpacked one by one, on request, into a temporary directory under names of our choice.
A member's own name is never used as a path, and links are ignored.
"""

from __future__ import annotations

import contextlib
import shutil
import stat
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import IO, Literal, cast

from elmo_runtime.errors import ArtifactError, WeightsError
from elmo_runtime.files.storage import storage_error

MAX_MEMBERS = 10_000
MAX_BYTES = 16 << 30
GZIP = b"\x1f\x8b"
Open = Callable[[], IO[bytes]]


class ModelFiles:
    """The regular files of a directory or an archive: `name in files`, `files.path(name)`."""

    def __init__(
        self, members: Mapping[str, Path | Open], scratch: Path | None = None, inner: str = ""
    ) -> None:
        self._members, self._scratch = dict(members), scratch
        self._unpacked: dict[str, Path] = {}
        self.inner = inner  # the directory inside, "" or ending in a slash

    def __contains__(self, name: str) -> bool:
        return self.inner + name in self._members

    def __iter__(self) -> Iterator[str]:
        return (n.removeprefix(self.inner) for n in self._members if n.startswith(self.inner))

    def path(self, name: str) -> Path | None:
        """The file on disk, or None if there is none of this name. Raises WeightsError."""
        name = self.inner + name
        member = self._members.get(name)
        if member is None or isinstance(member, Path):
            return member
        if name not in self._unpacked:
            assert self._scratch is not None
            target = self._scratch / str(len(self._unpacked))
            _copy(member, target)
            self._unpacked[name] = target
        return self._unpacked[name]

    def within(self, folder: str) -> ModelFiles:
        """The files below a directory inside, such as "variables/"."""
        files = ModelFiles(self._members, self._scratch, self.inner + folder)
        files._unpacked = self._unpacked
        return files

    def renamed(self, message: str) -> str:
        """An error message with the names of members in place of those of unpacked files."""
        # The highest numbers come first, because the path of file 1 is the start of that of 10.
        for name, path in reversed(self._unpacked.items()):
            message = message.replace(str(path), name)
        return message


@contextlib.contextmanager
def opened(source: Path) -> Iterator[ModelFiles]:
    """The files of a directory, .tar.gz, .tar or .zip; errors name the source and the member.

    Raises WeightsError for anything else, and for an archive that is truncated or corrupt.
    """
    with contextlib.ExitStack() as stack:
        files = ModelFiles({})
        try:
            files = _files(source, stack)
            yield files
        except ArtifactError as error:
            what = files.renamed(error.what)
            what = what if what.startswith(str(source)) else f"{source}: {what}"
            raise type(error)(what, hint=error.hint) from error
        except (
            *(tarfile.TarError, zipfile.BadZipFile, zlib.error, EOFError),
            *(OSError, NotImplementedError, RuntimeError),  # an unknown or encrypted zip member
        ) as error:
            raise WeightsError(f"{source} cannot be read as an archive: {error}") from error


def is_archive(source: Path) -> bool:
    """Whether the file starts like a gzip, a zip or a tar."""
    start = _start(source)
    return start.startswith((GZIP, b"PK\x03\x04")) or start[257:262] == b"ustar"


def _start(source: Path) -> bytes:
    with source.open("rb") as file:
        return file.read(512)


def _files(source: Path, stack: contextlib.ExitStack) -> ModelFiles:
    if source.is_dir():
        return ModelFiles({name: path for name, path in _walk(source)})
    if not source.is_file():
        raise WeightsError(f"{source} is not a file", hint="name the archive of the model")
    scratch = Path(stack.enter_context(tempfile.TemporaryDirectory()))
    if zipfile.is_zipfile(source):
        return ModelFiles(_zip_members(stack.enter_context(zipfile.ZipFile(source))), scratch)
    mode: Literal["r:gz", "r:"] = "r:gz" if _start(source).startswith(GZIP) else "r:"
    return ModelFiles(_tar_members(stack.enter_context(tarfile.open(source, mode))), scratch)


def _walk(folder: Path) -> Iterator[tuple[str, Path]]:
    """Files up to two directories deep, as far as published models go."""
    count = 0
    for pattern in ("*", "*/*", "*/*/*"):
        for path in sorted(folder.glob(pattern)):
            count += 1
            if count > MAX_MEMBERS:
                raise WeightsError(
                    f"{folder} contains over {MAX_MEMBERS} files",
                    hint="name the directory of the model",
                )
            if path.is_file():
                yield path.relative_to(folder).as_posix(), path


def _tar_members(tar: tarfile.TarFile) -> dict[str, Path | Open]:
    members: dict[str, Path | Open] = {}
    total = 0
    for count, member in enumerate(tar, start=1):
        total += member.size  # Checked before the next header is read, which unpacks this member.
        _check_size(count, total)
        # A link could name a file outside; a sparse member claims bytes that it does not store.
        if member.isreg() and not member.issparse():
            members[member.name.removeprefix("./")] = _opener(tar, member)
    return members


def _opener(tar: tarfile.TarFile, member: tarfile.TarInfo) -> Open:
    return lambda: cast(IO[bytes], tar.extractfile(member))  # None only for irregular members


def _zip_members(file: zipfile.ZipFile) -> dict[str, Path | Open]:
    members: dict[str, Path | Open] = {}
    total = 0
    for count, member in enumerate(file.infolist(), start=1):
        total += member.file_size
        _check_size(count, total)
        if not member.is_dir() and not stat.S_ISLNK(member.external_attr >> 16):
            members[member.filename.removeprefix("./")] = _zip_opener(file, member)
    return members


def _zip_opener(file: zipfile.ZipFile, member: zipfile.ZipInfo) -> Open:
    return lambda: file.open(member)


def _check_size(count: int, total: int) -> None:
    if count > MAX_MEMBERS or total > MAX_BYTES:
        raise WeightsError(f"over {MAX_MEMBERS} members or {MAX_BYTES} bytes are inside")


def _copy(member: Open, target: Path) -> None:
    try:
        with member() as stream, target.open("wb") as out:
            shutil.copyfileobj(stream, out)
    except OSError as error:
        if storage_error(error, target) is None:
            raise
        raise WeightsError(
            f"the temporary directory {tempfile.gettempdir()} is full: {error.strerror}",
            hint="free space there, or set TMPDIR to a directory on another disk",
        ) from error
