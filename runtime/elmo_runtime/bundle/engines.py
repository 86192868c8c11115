"""The engines of a bundle: `engines/<name>/` holds compiled plans and one `engine.json`.

A plan is native code of a compiler library, for one GPU generation and one library version.
engine.json names both, lists every plan with its digest, and names the source graphs.
This module opens no plan: backends/tensorrt does, and trust.py decides which may be opened.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from elmo_runtime.bundle.manifest import ENGINES, Bundle
from elmo_runtime.errors import EngineError, EngineMismatchError
from elmo_runtime.files.atomic import sha256_of

SCHEMA = 1
ENGINE_JSON = "engine.json"
MAX_ENGINE_JSON_BYTES = 1 << 20
HALF_SUFFIX = ".float16"  # an engine also has each vector output as float16

Sizes = Mapping[str, tuple[int, int, int]]  # free axis of a graph -> smallest, typical, largest


@dataclass(frozen=True, kw_only=True)
class PlanSpec:
    """A graph to compile for one range of every free axis."""

    part: str  # token_encoder | bilm
    graph: str  # the ONNX file of the bundle
    graph_sha256: str
    sizes: Sizes


@dataclass(frozen=True, kw_only=True)
class Plan:
    """One compiled graph for one range of every free axis.

    The biLM has one plan per length bucket: where the smallest and the largest `marked_length` are
    equal, the number of time steps is a constant and no step waits for the host.
    """

    part: str  # token_encoder | bilm
    file: str
    bytes: int
    sha256: str
    graph: str  # the ONNX file of the bundle that it was compiled from
    graph_sha256: str
    sizes: Sizes
    layers: Mapping[str, Any]  # see elmo_export.engines.layer_report

    @property
    def spec(self) -> PlanSpec:
        """The inputs of the compilation."""
        return PlanSpec(
            part=self.part, graph=self.graph, graph_sha256=self.graph_sha256, sizes=self.sizes
        )

    @property
    def exact_length(self) -> bool:
        """Whether every batch of this plan has the same padded length."""
        low, _, high = self.sizes["marked_length"]
        return low == high

    @property
    def capturable(self) -> bool:
        """Whether a CUDA graph can record it, because no step waits for the host."""
        return "marked_length" not in self.sizes or self.exact_length


@dataclass(frozen=True, kw_only=True)
class EngineSpec:
    """Everything that decides what a build produces: an engine that need not exist yet."""

    flavour: str  # tensorrt | tensorrt-rtx
    library_version: str
    compute_capability: str  # "8.6"
    precision: str
    flags: Mapping[str, Any]  # the options of the build, without the profiles
    plans: tuple[PlanSpec, ...]

    @property
    def name(self) -> str:
        """The directory: <compiler>-<version>-sm<NN>-<hash of graphs, profiles and flags>."""
        generation = self.compute_capability.replace(".", "")
        return f"{self.flavour}-{self.library_version}-sm{generation}-{self.key[:12]}"

    @property
    def key(self) -> str:
        """A digest of the complete specification."""
        content = {
            "flavour": self.flavour,
            "library_version": self.library_version,
            "compute_capability": self.compute_capability,
            "precision": self.precision,
            "flags": dict(self.flags),
            "plans": [
                {"part": plan.part, "graph_sha256": plan.graph_sha256, "sizes": dict(plan.sizes)}
                for plan in self.plans
            ],
        }
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()

    def built(self, plans: Sequence[Plan]) -> Engine:
        """The engine that a build made of this specification."""
        return Engine(
            flavour=self.flavour,
            library_version=self.library_version,
            compute_capability=self.compute_capability,
            precision=self.precision,
            flags=self.flags,
            plans=tuple(plans),
        )


@dataclass(frozen=True, kw_only=True)
class Engine:
    """The content of engine.json: a set of plans that serves one bundle on one kind of GPU."""

    flavour: str  # tensorrt | tensorrt-rtx
    library_version: str
    compute_capability: str  # "8.6"
    precision: str
    flags: Mapping[str, Any]  # the options of the build, without the profiles
    plans: tuple[Plan, ...]

    @property
    def spec(self) -> EngineSpec:
        """The specification that it was built from."""
        return EngineSpec(
            flavour=self.flavour,
            library_version=self.library_version,
            compute_capability=self.compute_capability,
            precision=self.precision,
            flags=self.flags,
            plans=tuple(plan.spec for plan in self.plans),
        )

    @property
    def name(self) -> str:
        """The name of its directory; see `EngineSpec.name`."""
        return self.spec.name

    def to_json(self) -> str:
        """The text of engine.json; the same content gives the same text."""
        return json.dumps({"schema": SCHEMA, **asdict(self)}, indent=1) + "\n"

    def check_fits(self, bundle: Bundle) -> None:
        """Raise EngineMismatchError unless it was compiled from the graphs of this bundle."""
        for file, digest in {plan.graph: plan.graph_sha256 for plan in self.plans}.items():
            graph = bundle.path / file
            if not graph.is_file() or sha256_of(graph) != digest:
                raise EngineMismatchError(
                    f"engine {self.name} was built from another {file}",
                    hint=f"run: elmo-deploy build-engine {bundle.path}",
                )

    def check_runs_on(self, *, flavour: str, library_version: str, compute_capability: str) -> None:
        """Raise EngineMismatchError unless it was built for this library and this GPU."""
        built = f"{self.flavour} {self.library_version}, compute capability"
        built += f" {self.compute_capability}"
        here = f"{flavour} {library_version}, compute capability {compute_capability}"
        if built != here:
            raise EngineMismatchError(
                f"engine {self.name} was built for {built}; here is {here}",
                hint="run elmo-deploy build-engine on this machine",
            )


def read_engine(folder: Path) -> tuple[Engine, str]:
    """The content of engine.json and the digest of its bytes, which identifies the engine.

    Raises EngineError when the file is missing or malformed.
    """
    path = folder / ENGINE_JSON
    text = _read_plain_file(path, MAX_ENGINE_JSON_BYTES + 1)
    if len(text) > MAX_ENGINE_JSON_BYTES:
        raise EngineError(f"{path} has more than {MAX_ENGINE_JSON_BYTES} bytes")
    try:
        content = json.loads(text)
        if content["schema"] != SCHEMA:
            raise EngineMismatchError(
                f"{path} has schema {content['schema']!r}, this elmo-deploy reads {SCHEMA}",
                hint="build the engine again",
            )
        return _parse(content), hashlib.sha256(text).hexdigest()
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
        raise EngineError(f"{path} is malformed: {error}", hint="build the engine again") from error


def read_plan(folder: Path, plan: Plan) -> bytes:
    """The bytes of a plan, whose digest is checked on exactly these bytes.

    Raises EngineError when the file is missing, truncated or changed.
    """
    path = folder / plan.file
    content = _read_plain_file(path, plan.bytes + 1)
    if len(content) != plan.bytes:
        found = "more" if len(content) > plan.bytes else str(len(content))
        raise EngineError(
            f"{path} has {found} bytes, {ENGINE_JSON} says {plan.bytes}",
            hint="it is truncated or of another build: build the engine again",
        )
    if hashlib.sha256(content).hexdigest() != plan.sha256:
        raise EngineError(
            f"{path} does not have the SHA-256 that {ENGINE_JSON} lists",
            hint="a byte changed since it was built: build the engine again",
        )
    return content


def engine_folders(bundle: Bundle) -> tuple[Path, ...]:
    """The directories of the engines, sorted by name, without hidden ones."""
    below = bundle.path / ENGINES
    if not below.is_dir() or below.is_symlink():
        return ()
    return tuple(
        sorted(
            path
            for path in below.iterdir()
            if path.is_dir() and not path.is_symlink() and not path.name.startswith(".")
        )
    )


def _read_plain_file(path: Path, limit: int) -> bytes:
    """Read at most `limit` bytes. Links are not followed, and a pipe does not block."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        with os.fdopen(handle, "rb") as stream:
            if not stat.S_ISREG(os.fstat(handle).st_mode):
                raise EngineError(f"{path} is not a plain file", hint="build the engine again")
            return stream.read(limit)
    except OSError as error:
        raise EngineError(
            f"{path} cannot be read: {error.strerror}", hint="build the engine again"
        ) from error


def _parse(content: Mapping[str, Any]) -> Engine:
    return Engine(
        flavour=str(content["flavour"]),
        library_version=str(content["library_version"]),
        compute_capability=str(content["compute_capability"]),
        precision=str(content["precision"]),
        flags=dict(content["flags"]),
        plans=tuple(_parse_plan(plan) for plan in content["plans"]),
    )


def _parse_plan(content: Mapping[str, Any]) -> Plan:
    for name in (content["file"], content["graph"]):
        if Path(name).is_absolute() or ".." in Path(name).parts:
            raise ValueError(f"{name!r} is not inside the bundle")
    return Plan(
        part=str(content["part"]),
        file=str(content["file"]),
        bytes=int(content["bytes"]),
        sha256=str(content["sha256"]),
        graph=str(content["graph"]),
        graph_sha256=str(content["graph_sha256"]),
        sizes={axis: _triple(sizes) for axis, sizes in content["sizes"].items()},
        layers=dict(content["layers"]),
    )


def _triple(sizes: Any) -> tuple[int, int, int]:
    low, typical, high = (int(size) for size in sizes)
    return low, typical, high
