"""AllenNLP's `model.tar.gz` -> checkpoint: finds the ELMo's two files inside and imports them.

Nothing is unpacked by the names in the archive, and no pickle in it is opened.
"""

from __future__ import annotations

import json
import shutil
import tarfile
import tempfile
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any, cast

from elmo_deploy.importers.bilm_hdf5 import MAX_OPTIONS_BYTES, import_hdf5
from elmo_export.checkpoint import Checkpoint
from elmo_runtime.errors import ArtifactError, WeightsError
from elmo_runtime.files.storage import storage_error

CONFIG = "config.json"
ADDED_FILES = "fta/"  # "files to archive": fta/<place in config.json>.options_file, .weight_file
OPTIONS_FILE, WEIGHT_FILE = "options_file", "weight_file"
MAX_MEMBERS = 10_000
MAX_BYTES = 16 << 30


def import_archive(archive: Path) -> Checkpoint:
    """The ELMo whose options and weights a trained AllenNLP model carries with it.

    The biLM is the one that training started from: a fine-tuned one, and every layer mix, is
    in `weights.th` alone. Raises WeightsError where the archive holds no ELMo, more than one,
    or a fine-tuned one, and names the files to import by hand.
    """
    if not archive.is_file():
        raise WeightsError(f"{archive} is not a file", hint="name AllenNLP's model.tar.gz")
    with tempfile.TemporaryDirectory() as scratch:
        try:
            with tarfile.open(archive, "r:gz") as tar:
                return _import(tar, Path(scratch))
        except ArtifactError as error:
            what = error.what.replace(f"{scratch}/", "")  # the scratch files are gone by then
            raise type(error)(f"{archive}: {what}", hint=error.hint) from error
        except (tarfile.TarError, EOFError, OSError, zlib.error) as error:
            raise WeightsError(f"{archive} cannot be read as a .tar.gz: {error}") from error


def _import(tar: tarfile.TarFile, scratch: Path) -> Checkpoint:
    members = _members(tar)
    place = _place_of_elmo(_config(tar, members), members)
    return import_hdf5(
        _copy(tar, members[f"{place}{OPTIONS_FILE}"], scratch / "options.json"),
        _copy(tar, members[f"{place}{WEIGHT_FILE}"], scratch / "weights.hdf5"),
    )


def _members(tar: tarfile.TarFile) -> dict[str, tarfile.TarInfo]:
    members, total = {}, 0
    for count, member in enumerate(tar, start=1):
        total += member.size  # checked before the next header is sought, which unpacks this member
        if count > MAX_MEMBERS or total > MAX_BYTES:
            raise WeightsError(f"over {MAX_MEMBERS} members or {MAX_BYTES} bytes are inside")
        # A link could name a file outside, a sparse member claims bytes that it does not hold.
        if member.isreg() and not member.issparse():
            members[member.name.removeprefix("./")] = member
    return members


def _config(tar: tarfile.TarFile, members: Mapping[str, tarfile.TarInfo]) -> Any:
    member = members.get(CONFIG)
    if member is None or member.size > MAX_OPTIONS_BYTES:
        raise WeightsError(f"no {CONFIG} of at most {MAX_OPTIONS_BYTES} bytes is inside")
    try:
        return json.loads(cast(IO[bytes], tar.extractfile(member)).read())
    except (ValueError, RecursionError) as error:
        raise WeightsError(f"{CONFIG} is not JSON: {error}") from error


def _place_of_elmo(config: Any, members: Mapping[str, tarfile.TarInfo]) -> str:
    """The prefix of the two members of the one ELMo that the config describes."""
    embedders = dict(_elmo_embedders(config))
    if len(embedders) != 1:
        raise WeightsError(
            f"{CONFIG} describes {len(embedders)} ELMos, must be one", hint=_by_hand(embedders)
        )
    [(place, embedder)] = embedders.items()
    prefix = f"{ADDED_FILES}{place}"
    for name in (f"{prefix}{OPTIONS_FILE}", f"{prefix}{WEIGHT_FILE}"):
        if name not in members:
            raise WeightsError(f"{name} is not inside", hint=_by_hand(embedders))
    if embedder.get("requires_grad"):
        raise WeightsError(
            "the ELMo was fine-tuned, so its weights are in weights.th, a pickle",
            hint=f"for the ELMo before tuning {_by_hand(embedders)}",
        )
    return prefix


def _elmo_embedders(config: Any) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Every object of the config with an options_file and a weight_file, and where it stands."""
    waiting = [("", config)]
    while waiting:
        place, node = waiting.pop()
        if not isinstance(node, dict):
            continue
        if OPTIONS_FILE in node and WEIGHT_FILE in node:
            yield place, node
        waiting += [(f"{place}{key}.", child) for key, child in node.items()]


def _by_hand(embedders: Mapping[str, Mapping[str, Any]]) -> str:
    keys = (OPTIONS_FILE, WEIGHT_FILE)
    files = [str(embedder[key]) for embedder in embedders.values() for key in keys]
    return f"import by --options and --weights; it names: {', '.join(files) or 'none'}"


def _copy(tar: tarfile.TarFile, member: tarfile.TarInfo, target: Path) -> Path:
    stream = cast(IO[bytes], tar.extractfile(member))  # None only for what is no regular file
    try:
        with target.open("wb") as out:
            shutil.copyfileobj(stream, out)
    except OSError as error:
        if storage_error(error, target) is None:
            raise
        raise WeightsError(
            f"the temporary directory {tempfile.gettempdir()} cannot take {member.size} bytes:"
            f" {error.strerror}",
            hint="free some space there, or set TMPDIR to a directory on another disk",
        ) from error
    return target
