"""The bundle argument of commands that read a bundle: a directory, or the demo bundle by name."""

from __future__ import annotations

from pathlib import Path

from elmo_deploy.demo import ENGLISH_SMALL, demo_bundle
from elmo_runtime.errors import ArtifactError

BUNDLE = f"The bundle directory, or {ENGLISH_SMALL}: the small model that comes with elmo-deploy."


def bundle_path(path: Path) -> Path:
    """The path, or the demo bundle if `english-small` is given and is not a path.

    ArtifactError: the path is a file.
    """
    if str(path) == ENGLISH_SMALL and not path.exists():
        return demo_bundle()
    if path.is_file():
        raise ArtifactError(
            f"{path} is a file, not a directory",
            hint="name the directory of a bundle, before other arguments",
        )
    return path
