"""http(s) URL -> a file in the cache, with progress, resume and an optional digest.

pooch names, verifies and keeps the file. The downloader here continues a partial one.
"""

from __future__ import annotations

import contextlib
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from elmo_runtime.errors import ArtifactError, InputError, WeightsError
from elmo_runtime.files.atomic import sha256_of
from elmo_runtime.files.storage import storage_errors

BLOCK = 1 << 18
TIMEOUT = 30  # seconds without a byte
CACHE = "elmo-deploy"
_DIGEST = re.compile(r"[0-9a-f]{64}")
Report = Callable[[int, int | None], None]  # bytes so far, bytes in total if known


def is_url(source: str) -> bool:
    """Whether this is an http or https URL and not a path."""
    return source.lower().startswith(("http://", "https://"))


def download(
    url: str, *, sha256: str | None = None, report: Report | None = None, cache: Path | None = None
) -> Path:
    """The file of a URL, from the cache if it is there; an interrupted download continues.

    sha256: the digest that the file must have. cache: by default the user's cache directory,
    which the environment variable XDG_CACHE_HOME moves. Raises InputError for a malformed digest,
    WeightsError for another digest, ArtifactError if the server or the disk fails.
    """
    import pooch

    check_digest(sha256)
    pooch.get_logger().setLevel("WARNING")  # It would print the URL with its query.
    folder = cache or Path(pooch.os_cache(CACHE)) / "downloads"
    name = pooch.utils.unique_file_name(url)
    partial = folder / f"{name}.partial"
    with _errors(url, folder):
        folder.mkdir(parents=True, exist_ok=True)
        return Path(
            pooch.retrieve(
                url,
                known_hash=f"sha256:{sha256.lower()}" if sha256 else None,
                fname=name,
                path=folder,
                downloader=_Resuming(partial, report or (lambda done, total: None)),
            )
        )


def check_digest(sha256: str | None) -> None:
    """Raise InputError unless this is None or 64 hexadecimal digits."""
    if sha256 is not None and not _DIGEST.fullmatch(sha256.lower()):
        raise InputError(
            f"the digest is {sha256!r}, must have 64 hexadecimal digits",
            hint="pass the SHA-256 of the file",
        )


def check_file_digest(path: Path, sha256: str | None) -> None:
    """Raise WeightsError unless the digest is None or that of the file on this machine."""
    check_digest(sha256)
    if sha256 is None:
        return
    if not path.is_file():
        raise InputError(f"{path} is not a file, so it has no digest", hint="omit --sha256")
    if (found := sha256_of(path)) != sha256.lower():
        raise WeightsError(
            f"{path} has the SHA-256 {found}, must be {sha256.lower()}",
            hint="compare the digest with the publisher's",
        )


class _Resuming:
    """A downloader for pooch that keeps what it received when the connection breaks."""

    def __init__(self, partial: Path, report: Report) -> None:
        self.partial, self.report = partial, report

    def __call__(self, url: str, output_file: str, pooch: Any, check_only: bool = False) -> None:
        import requests

        done = self.partial.stat().st_size if self.partial.exists() else 0
        # An identity encoding keeps the ranges and lengths those of the file itself.
        headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={done}-"} if done else {})
        with requests.get(url, headers=headers, stream=True, timeout=TIMEOUT) as response:
            if done and response.status_code == requests.codes.requested_range_not_satisfiable:
                self.partial.unlink()  # It has no rest, so it is complete or of another file.
                self(url, output_file, pooch)
                return
            response.raise_for_status()
            self._receive(response, done if _continues(response, done) else 0)
        shutil.move(self.partial, output_file)

    def _receive(self, response: Any, done: int) -> None:
        length = response.headers.get("Content-Length", "")
        total = done + int(length) if length.isdecimal() else None
        with self.partial.open("ab" if done else "wb") as file:
            for block in response.iter_content(BLOCK):
                file.write(block)
                done += len(block)
                self.report(done, total)
        if total is not None and done != total:
            raise ConnectionError(f"{done} of {total} bytes arrived")


def _continues(response: Any, done: int) -> bool:
    """Whether the server sends the rest, not the file from its beginning."""
    content_range = str(response.headers.get("Content-Range", ""))
    return bool(response.status_code == 206) and content_range.startswith(f"bytes {done}-")


@contextlib.contextmanager
def _errors(url: str, folder: Path) -> Iterator[None]:
    import requests

    parts = urlsplit(url)
    shown = parts._replace(query="", fragment="").geturl()  # A query may contain a token.
    try:
        with storage_errors(folder):
            yield
    except (requests.RequestException, ConnectionError) as error:
        reason = " ".join(str(error).replace(f"?{parts.query}", "").split())[:300]
        raise ArtifactError(
            f"{shown} cannot be downloaded: {reason}",
            hint="run the command again, which continues the download, or download it by hand",
        ) from error
    except ValueError as error:  # pooch: another digest
        if "hash" not in str(error).lower():
            raise
        raise WeightsError(
            f"{shown} does not have the digest of --sha256: {' '.join(str(error).split())}",
            hint="compare the digest with the publisher's",
        ) from error
