"""The bundle directory: its manifest, and the checks before anything is parsed.

manifest.json lists every file with its size and SHA-256, and manifest.sha256 (as `sha256sum`
writes it) holds its own. The digest of the bytes that are read decides, so a file may be a link, as
in the cache of the Hugging Face hub. Nothing is read that the manifest does not list;
hidden files and those that desktops leave are ignored, any other unlisted file makes the bundle
corrupt. Engines are built later, on the machine that runs them: `engines/` holds directories of
a plan and its own engine.json, and is checked by the backend that opens them.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

from elmo_runtime.bundle.graph_contract import check_axes, check_opset
from elmo_runtime.bundle.listed_files import (
    FileEntry,
    check_files,
    listed_files,
    read_listed,
    read_small_file,
)
from elmo_runtime.config import ElmoConfig
from elmo_runtime.errors import BundleCorruptError, BundleError, BundleVersionError
from elmo_runtime.files.atomic import sha256_of
from elmo_runtime.mixes import NamedMix, check_mixes, uses_layer_norm

SCHEMA = 2  # schema 2 added the layer mixes
OLDEST_SCHEMA = 1
MANIFEST = "manifest.json"
MANIFEST_DIGEST = "manifest.sha256"
ENGINES = "engines"
NATIVE = "native"  # in the parity table, instead of the name of a graph
MAX_MANIFEST_BYTES = 1 << 20
T = TypeVar("T")


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
    """The content of manifest.json without the list of files. The first mix is the default."""

    config: ElmoConfig
    graphs: tuple[Graph, ...]
    provenance: Mapping[str, str]  # SHA-256 of the source weights, versions of the packages
    parity: tuple[Mapping[str, Any], ...] = ()  # rows of the table that `export` printed
    notes: Mapping[str, Any] | None = None  # e.g. tensors kept in fp32 and why
    mixes: tuple[NamedMix, ...] = ()  # the mixes that were trained with the model

    def to_json(self, files: Mapping[str, Mapping[str, Any]]) -> str:
        """The text of manifest.json; the same content gives the same text."""
        content = {
            "schema": SCHEMA,
            "config": self.config.to_options(),
            "mixes": [asdict(mix) for mix in self.mixes],
            "graphs": [asdict(graph) for graph in self.graphs],
            "provenance": dict(self.provenance),
            "parity": [dict(row) for row in self.parity],
            "notes": dict(self.notes or {}),
            "files": {name: dict(files[name]) for name in sorted(files)},
        }
        return json.dumps(content, indent=1, ensure_ascii=False) + "\n"


@dataclass(frozen=True)
class Bundle:
    """A bundle on disk, all of whose files match its manifest; `Bundle.open` opens one.

    Attributes:
        path: The directory.
        manifest: The content of manifest.json without the list of files.
        files: The listed files by name, such as "graphs/bilm.packed.fp32.onnx".
        digest: The SHA-256 of manifest.json, which identifies the bundle.
    """

    path: Path
    manifest: Manifest
    files: Mapping[str, FileEntry]
    digest: str

    def __repr__(self) -> str:
        return f"Bundle({str(self.path)!r}, {', '.join(self.precisions)})"

    @property
    def config(self) -> ElmoConfig:
        """The options of the ELMo."""
        return self.manifest.config

    @property
    def mixes(self) -> tuple[NamedMix, ...]:
        """The layer mixes that were trained with the model, the default first."""
        return self.manifest.mixes

    @property
    def precisions(self) -> tuple[str, ...]:
        """The precisions of its graphs, e.g. ("fp32", "fp16")."""
        return tuple(dict.fromkeys(graph.precision for graph in self.manifest.graphs))

    @property
    def native_forms(self) -> tuple[str, ...]:
        """The precisions in which its export verified the backend `native`, from the FP32 weights.

        The rows of the parity table are the record: "fp32", "bf16", "int8", or none.
        """
        rows = [row for row in self.manifest.parity if row.get("graph") == NATIVE]
        forms = dict.fromkeys(str(row.get("precision")) for row in rows)
        failed = {row.get("precision") for row in rows if row.get("passed") is not True}
        return tuple(form for form in forms if form not in failed)

    @classmethod
    def open(cls, path: Path) -> Bundle:
        """Check every file, then read the manifest.

        Args:
            path: The bundle directory.

        Returns:
            The bundle, whose files are read when they are needed.

        Raises:
            BundleError: The directory is not a bundle.
            BundleCorruptError: A file is changed, missing or unexpected.
            BundleVersionError: Another version of this package made the bundle.
        """
        path = Path(path)
        if not path.is_dir():
            raise BundleError(
                f"{path} is not a bundle directory", hint="make one: elmo-deploy export"
            )
        _refuse_checkpoint(path)
        text = _read_manifest(path)
        content = _parse_json(path / MANIFEST, text)
        listed = listed_files(content)
        check_files(path, listed, others={MANIFEST, MANIFEST_DIGEST}, skipped=ENGINES)
        manifest = _parse(content)
        for graph in manifest.graphs:
            if graph.file not in listed:
                raise BundleCorruptError(f"{path}: graph {graph.file!r} is not a listed file")
            _check_graph(graph, manifest)
        return cls(path, manifest, listed, hashlib.sha256(text).hexdigest())

    def read(self, name: str) -> bytes:
        """The content of a listed file. The digest of the returned bytes is checked.

        Args:
            name: A name in `files`.

        Returns:
            All bytes of the file.

        Raises:
            BundleError: The file is not listed.
            BundleCorruptError: The file has changed.
        """
        if name not in self.files:
            raise BundleError(f"{self.path} holds no {name}", hint="export the bundle again")
        return read_listed(self.path, name, self.files[name])

    def graph(self, part: str, precision: str, *, forms: Iterable[str]) -> Graph | None:
        """The graph of this part and precision in the first form of `forms` that exists."""
        for form in forms:
            for graph in self.manifest.graphs:
                if (graph.part, graph.precision, graph.form) == (part, precision, form):
                    return graph
        return None


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Write manifest.json with the size and digest of every file in `folder`, and its digest."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    names = {path.relative_to(folder).as_posix(): path for path in paths}
    files = {
        name: {"bytes": path.stat().st_size, "sha256": sha256_of(path)}
        for name, path in names.items()
        if name not in (MANIFEST, MANIFEST_DIGEST)
    }
    content = manifest.to_json(files).encode("utf-8")
    (folder / MANIFEST).write_bytes(content)
    (folder / MANIFEST_DIGEST).write_bytes(_digest_line(content))


def _refuse_checkpoint(path: Path) -> None:
    """Raise BundleError if the directory is a checkpoint."""
    if (path / MANIFEST).exists():
        return
    for folder in (path, path / "checkpoint"):  # the latter is the directory of a training run
        if (folder / "model.safetensors").exists():
            raise BundleError(
                f"{folder} is a checkpoint, not a bundle",
                hint=f"make a bundle from it: elmo-deploy export {folder} -o BUNDLE",
            )


def _digest_line(content: bytes) -> bytes:
    """The output of `sha256sum manifest.json`."""
    return f"{hashlib.sha256(content).hexdigest()}  {MANIFEST}\n".encode()


def _read_manifest(folder: Path) -> bytes:
    text = read_small_file(folder / MANIFEST, limit=MAX_MANIFEST_BYTES)
    digest = read_small_file(folder / MANIFEST_DIGEST, limit=MAX_MANIFEST_BYTES)
    if digest != _digest_line(text):
        raise BundleCorruptError(
            f"{folder / MANIFEST} does not have the SHA-256 that {MANIFEST_DIGEST} holds",
            hint="a byte changed since the export: copy or export the bundle again",
        )
    return text


def _parse_json(path: Path, text: bytes) -> dict[str, Any]:
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise BundleCorruptError(f"{path} is not JSON: {error}") from error
    if not isinstance(content, dict) or "schema" not in content:
        raise BundleCorruptError(f"{path} names no schema")
    schema = content["schema"]
    if type(schema) is not int or not OLDEST_SCHEMA <= schema <= SCHEMA:
        raise BundleVersionError(
            f"{path} has schema {schema!r}, this elmo-deploy reads {OLDEST_SCHEMA} to {SCHEMA}",
            hint="export the checkpoint again, or install the version that made the bundle",
        )
    return content


def _parse(content: Mapping[str, Any]) -> Manifest:
    try:
        config = ElmoConfig.from_options(content["config"])
        mixes = tuple(_parse_mix(mix) for mix in content["mixes"]) if content["schema"] > 1 else ()
        check_mixes(mixes, config)
        return Manifest(
            config=config,
            mixes=mixes,
            graphs=tuple(_parse_graph(graph) for graph in content["graphs"]),
            provenance=dict(content["provenance"]),
            parity=tuple(dict(row) for row in content["parity"]),
            notes=dict(content.get("notes") or {}),
        )
    except (KeyError, TypeError, ValueError, OverflowError, AttributeError) as error:
        raise BundleVersionError(
            f"invalid manifest (schema {content['schema']}): missing or malformed field: {error}",
            hint="export the bundle again",
        ) from error


def _parse_mix(content: Mapping[str, Any]) -> NamedMix:
    return NamedMix(
        name=_typed(content, "name", str),
        weights=tuple(_number(weight) for weight in _typed(content, "weights", list)),
        gamma=_number(content["gamma"]),
        layer_norm=_typed(content, "layer_norm", bool),
    )


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


def _check_graph(graph: Graph, manifest: Manifest) -> None:
    """The joined graph is for other runtimes; this package does not open it."""
    check_opset(graph.file, graph.opset)
    if graph.part != "joined":
        for tensor in (*graph.inputs, *graph.outputs):
            check_axes(graph.file, tensor.name, tensor.axes, manifest.config)
    if graph.part == "bilm":
        normalizes = any(tensor.name == "layer_norm" for tensor in graph.inputs)
        if normalizes != uses_layer_norm(manifest.mixes):
            raise BundleVersionError(
                f"{graph.file} and the layer mixes of {MANIFEST} disagree about layer norm",
                hint="export the checkpoint again",
            )


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


def _number(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"number {value!r}")
    return float(value)


def _typed(content: Mapping[str, Any], key: str, kind: type[T]) -> T:
    value = content[key]
    if not isinstance(value, kind):
        raise TypeError(f"{key} {value!r}")
    return value
