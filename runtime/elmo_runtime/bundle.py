"""The bundle directory: what its manifest says, and the checks made before anything is parsed.

manifest.json lists every file with its size and SHA-256, and manifest.sha256 (as `sha256sum`
writes it) holds its own; a file it does not list, a link or anything that is not a plain file
makes the bundle corrupt. Engines are built later, on the machine that runs them: `engines/` holds
folders of a plan and its own engine.json, and is checked by the backend that opens them.
"""

from __future__ import annotations

import hashlib
import json
import re
import stat
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar

from elmo_runtime.config import ElmoConfig
from elmo_runtime.errors import BundleCorruptError, BundleError, BundleVersionError
from elmo_runtime.files import sha256_of
from elmo_runtime.interface import check_axes, check_opset

SCHEMA = 1
MANIFEST = "manifest.json"
MANIFEST_DIGEST = "manifest.sha256"
ENGINES = "engines"
MAX_MANIFEST_BYTES = 1 << 20
T = TypeVar("T")
_SAFE_PART = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}")


@dataclass(frozen=True)
class Tensor:
    """An input or output of a graph; an axis is a number or the name of a free size."""

    name: str
    dtype: str
    axes: tuple[int | str, ...]
    meaning: str


@dataclass(frozen=True, kw_only=True)
class Graph:
    """One ONNX file of the bundle.

    part: token_encoder | bilm | joined. form: padded (any backend) | packed (CPU).
    """

    part: str
    form: str
    precision: str
    file: str
    opset: int
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """The content of manifest.json, less the list of files."""

    config: ElmoConfig
    graphs: tuple[Graph, ...]
    provenance: Mapping[str, str]  # source weights' sha256, versions of what made the bundle
    parity: tuple[Mapping[str, Any], ...] = ()  # rows of the table that `export` printed
    notes: Mapping[str, Any] | None = None  # e.g. tensors kept in fp32 and why

    def to_json(self, files: Mapping[str, Mapping[str, Any]]) -> str:
        """The text of manifest.json; the same content gives the same text."""
        content = {
            "schema": SCHEMA,
            "config": self.config.to_options(),
            "graphs": [asdict(graph) for graph in self.graphs],
            "provenance": dict(self.provenance),
            "parity": [dict(row) for row in self.parity],
            "notes": dict(self.notes or {}),
            "files": {name: dict(files[name]) for name in sorted(files)},
        }
        return json.dumps(content, indent=1, ensure_ascii=False) + "\n"


@dataclass(frozen=True)
class Bundle:
    """A bundle on disk whose files were all checked against its manifest."""

    path: Path
    manifest: Manifest

    @property
    def config(self) -> ElmoConfig:
        """The ELMo that the bundle holds."""
        return self.manifest.config

    @property
    def precisions(self) -> tuple[str, ...]:
        """The precisions it was exported in, e.g. ("fp32", "fp16")."""
        return tuple(dict.fromkeys(graph.precision for graph in self.manifest.graphs))

    @classmethod
    def open(cls, path: Path) -> Bundle:
        """Check every file, then read the manifest.

        Raises BundleCorruptError (changed, missing or surplus file) or BundleVersionError.
        """
        path = Path(path)
        if not path.is_dir():
            raise BundleError(
                f"{path} is not a bundle directory", hint="make one: elmo-deploy export"
            )
        _refuse_checkpoint(path)
        content = _read_manifest(path)
        listed = _listed_files(content)
        _check_files(path, listed)
        manifest = _parse(content)
        for graph in manifest.graphs:
            if graph.file not in listed:
                raise BundleCorruptError(f"{path}: graph {graph.file!r} is not a listed file")
            _check_graph(graph, manifest.config)
        return cls(path, manifest)

    def graph(self, part: str, precision: str, *, forms: Iterable[str]) -> Graph | None:
        """The graph of this part and precision in the first form of `forms` that exists."""
        for form in forms:
            for graph in self.manifest.graphs:
                if (graph.part, graph.precision, graph.form) == (part, precision, form):
                    return graph
        return None


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """List every file now in `folder` with size and digest in manifest.json, and digest that."""
    files = {
        name: {"bytes": (folder / name).stat().st_size, "sha256": sha256_of(folder / name)}
        for name in _files_below(folder)
        if name not in (MANIFEST, MANIFEST_DIGEST)
    }
    content = manifest.to_json(files).encode("utf-8")
    (folder / MANIFEST).write_bytes(content)
    (folder / MANIFEST_DIGEST).write_bytes(_digest_line(content))


def _refuse_checkpoint(path: Path) -> None:
    """Raise BundleError where the directory is what a bundle is made from."""
    if (path / MANIFEST).exists():
        return
    for folder in (path, path / "checkpoint"):  # the latter is in the directory of a training run
        if (folder / "model.safetensors").exists():
            raise BundleError(
                f"{folder} is a checkpoint, not a bundle",
                hint=f"make a bundle from it: elmo-deploy export {folder} -o BUNDLE",
            )


def _digest_line(content: bytes) -> bytes:
    """What `sha256sum manifest.json` prints."""
    return f"{hashlib.sha256(content).hexdigest()}  {MANIFEST}\n".encode()


def _read_manifest(folder: Path) -> dict[str, Any]:
    path = folder / MANIFEST
    text = _read_plain_file(path)
    if _read_plain_file(folder / MANIFEST_DIGEST) != _digest_line(text):
        raise BundleCorruptError(
            f"{path} does not have the SHA-256 that {MANIFEST_DIGEST} holds",
            hint="a byte changed since the export: copy or export the bundle anew",
        )
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise BundleCorruptError(f"{path} is not JSON: {error}") from error
    if not isinstance(content, dict) or "schema" not in content:
        raise BundleCorruptError(f"{path} names no schema")
    if content["schema"] != SCHEMA:
        raise BundleVersionError(
            f"{path} has schema {content['schema']!r}, this elmo-deploy reads {SCHEMA}",
            hint="export the checkpoint anew, or install the version that made the bundle",
        )
    return content


def _read_plain_file(path: Path) -> bytes:
    """All of a small file that is neither a link nor anything that could block or grow."""
    try:
        status = path.lstat()
    except FileNotFoundError as error:
        raise BundleCorruptError(
            f"{path} does not exist", hint="export the bundle again: elmo-deploy export"
        ) from error
    if not stat.S_ISREG(status.st_mode) or status.st_nlink != 1:
        raise BundleCorruptError(f"{path} is not a plain file")
    if status.st_size > MAX_MANIFEST_BYTES:
        raise BundleCorruptError(f"{path} is {status.st_size} bytes, at most {MAX_MANIFEST_BYTES}")
    return path.read_bytes()


def _listed_files(content: Mapping[str, Any]) -> dict[str, tuple[int, str]]:
    try:
        listed = {
            str(name): (int(entry["bytes"]), str(entry["sha256"]))
            for name, entry in content["files"].items()
        }
    except (KeyError, TypeError, ValueError, OverflowError, AttributeError) as error:
        raise BundleCorruptError(f"{MANIFEST}: the list of files is malformed: {error}") from error
    if len({name.casefold() for name in listed}) < len(listed):
        raise BundleCorruptError(f"{MANIFEST}: two files differ by upper and lower case only")
    for name in listed:
        if not all(_SAFE_PART.fullmatch(part) for part in name.split("/")):
            raise BundleCorruptError(f"{MANIFEST}: {name!r} is not the name of a bundle file")
    return listed


def _check_files(folder: Path, listed: Mapping[str, tuple[int, str]]) -> None:
    found = set(_files_below(folder)) - {MANIFEST, MANIFEST_DIGEST}
    if missing := sorted(set(listed) - found):
        raise BundleCorruptError(f"{folder}: {missing[0]} is missing", hint="copy the bundle anew")
    if surplus := sorted(found - set(listed)):
        raise BundleCorruptError(f"{folder}: {surplus[0]} is not listed in {MANIFEST}")
    for name, (size, _) in listed.items():  # every size before the first byte is read
        actual = (folder / name).stat().st_size
        if actual != size:
            raise BundleCorruptError(f"{folder / name} has {actual} bytes, {MANIFEST} says {size}")
    for name, (_, digest) in listed.items():
        if sha256_of(folder / name) != digest:
            raise BundleCorruptError(
                f"{folder / name} does not have the SHA-256 that {MANIFEST} lists",
                hint="a byte changed since the export: copy or export the bundle anew",
            )


def _files_below(folder: Path) -> Iterator[str]:
    """Names of all files but those of engines/; refuses links and what is no plain file."""
    for path in sorted(folder.rglob("*")):
        name = PurePosixPath(path.relative_to(folder))
        if name.parts[0] == ENGINES and not path.is_symlink():
            continue
        status = path.lstat()
        if stat.S_ISDIR(status.st_mode):
            continue
        if not stat.S_ISREG(status.st_mode) or status.st_nlink != 1:
            raise BundleCorruptError(
                f"{path} is a link or not a plain file", hint="a bundle holds plain files only"
            )
        yield str(name)


def _parse(content: Mapping[str, Any]) -> Manifest:
    try:
        return Manifest(
            config=ElmoConfig.from_options(content["config"]),
            graphs=tuple(_parse_graph(graph) for graph in content["graphs"]),
            provenance=dict(content["provenance"]),
            parity=tuple(dict(row) for row in content["parity"]),
            notes=dict(content.get("notes") or {}),
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise BundleVersionError(
            f"{MANIFEST} is of schema {SCHEMA} but lacks or misspells {error}", hint="export anew"
        ) from error


def _parse_graph(content: Mapping[str, Any]) -> Graph:
    return Graph(
        part=_typed(content, "part", str),
        form=_typed(content, "form", str),
        precision=_typed(content, "precision", str),
        file=_typed(content, "file", str),
        opset=_typed(content, "opset", int),
        inputs=tuple(_parse_tensor(tensor) for tensor in _typed(content, "inputs", list)),
        outputs=tuple(_parse_tensor(tensor) for tensor in _typed(content, "outputs", list)),
    )


def _check_graph(graph: Graph, config: ElmoConfig) -> None:
    """The joined graph is for other runtimes; nothing here opens it."""
    check_opset(graph.file, graph.opset)
    if graph.part != "joined":
        for tensor in (*graph.inputs, *graph.outputs):
            check_axes(graph.file, tensor.name, tensor.axes, config)


def _parse_tensor(content: Mapping[str, Any]) -> Tensor:
    axes = _typed(content, "axes", list)
    if not all(isinstance(axis, int | str) for axis in axes):
        raise TypeError(f"axes {axes!r}")
    return Tensor(
        _typed(content, "name", str),
        _typed(content, "dtype", str),
        tuple(axes),
        _typed(content, "meaning", str),
    )


def _typed(content: Mapping[str, Any], key: str, kind: type[T]) -> T:
    value = content[key]
    if not isinstance(value, kind):
        raise TypeError(f"{key} {value!r}")
    return value
