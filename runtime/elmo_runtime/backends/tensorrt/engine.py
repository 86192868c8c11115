"""A trusted engine of the bundle that runs on this machine, and its deserialized plans."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from elmo_runtime.backends.tensorrt.cuda import Device
from elmo_runtime.backends.tensorrt.library import Library, load_library, opening_error
from elmo_runtime.bundle.engines import (
    HALF_SUFFIX,
    Engine,
    Plan,
    engine_folders,
    read_engine,
    read_plan,
)
from elmo_runtime.bundle.manifest import Bundle, Graph, Tensor
from elmo_runtime.bundle.trust import is_trusted
from elmo_runtime.errors import (
    ArtifactError,
    BackendUnavailableError,
    ElmoDeployError,
    EngineError,
    EngineMismatchError,
)

PRECISIONS = ("fp16", "fp32")  # in order of preference on a GPU


@dataclass(frozen=True)
class OpenPlan:
    """A plan and its deserialized engine; `outputs` include the float16 copies."""

    plan: Plan
    engine: Any
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]


@dataclass(frozen=True)
class OpenEngine:
    """Every plan of an engine. `runtime` must outlive the deserialized plans."""

    record: Engine
    library: Library
    device: Device
    runtime: Any
    encoder: OpenPlan
    bilm: tuple[OpenPlan, ...]


def open_engine(bundle: Bundle, precision: str, *, trusted: Collection[str] = ()) -> OpenEngine:
    """The first engine that fits the bundle, is trusted and runs on this machine.

    Raises the error of the best one: EngineError, or BackendUnavailableError without an engine, a
    library, a driver or a GPU.
    """
    failures: list[ElmoDeployError] = []
    for folder, record in _candidates(bundle, precision, trusted, failures):
        try:
            record.check_fits(bundle)
            library, device = load_library(record.flavour), Device.open()
            record.check_runs_on(
                flavour=library.flavour,
                library_version=library.version,
                compute_capability=device.compute_capability,
            )
            return _open(bundle, folder, record, library, device)
        except (ArtifactError, BackendUnavailableError) as error:
            failures.append(error)
    raise (
        failures[-1]
        if failures
        else BackendUnavailableError(
            f"{bundle.path} holds no engine" + ("" if precision == "auto" else f" of {precision}"),
            hint=f"run: elmo-deploy build-engine {bundle.path}",
        )
    )


def _candidates(
    bundle: Bundle, precision: str, trusted: Collection[str], failures: list[ElmoDeployError]
) -> list[tuple[Path, Engine]]:
    """Readable and trusted engines, the preferred precision first."""
    found = []
    for folder in engine_folders(bundle):
        try:
            record, digest = read_engine(folder)
        except ArtifactError as error:
            failures.append(error)
            continue
        if record.precision not in (PRECISIONS if precision == "auto" else (precision,)):
            continue
        if not is_trusted(digest, trusted):
            failures.append(_untrusted(folder, digest))
            continue
        found.append((folder, record))
    return sorted(found, key=lambda pair: PRECISIONS.index(pair[1].precision))


def _untrusted(folder: Path, digest: str) -> EngineError:
    return EngineError(
        f"engine {folder.name} is not trusted: an engine contains native code, and"
        " this user did not build it on this machine",
        hint="build it here with elmo-deploy build-engine, or pass its digest"
        f" if you know its origin: {digest}",
    )


def _open(
    bundle: Bundle, folder: Path, record: Engine, library: Library, device: Device
) -> OpenEngine:
    with device.current():
        runtime = library.module.Runtime(library.logger)
        plans = [
            _open_plan(_graph(bundle, record, plan), folder, plan, library, runtime)
            for plan in record.plans
        ]
    encoders = [plan for plan in plans if plan.plan.part == "token_encoder"]
    bilms = tuple(plan for plan in plans if plan.plan.part == "bilm")
    if len(encoders) != 1 or not bilms:
        raise EngineError(
            f"engine {record.name} lacks the plan of a token encoder or of a biLM",
            hint="build the engine again",
        )
    return OpenEngine(record, library, device, runtime, encoders[0], bilms)


def _graph(bundle: Bundle, record: Engine, plan: Plan) -> Graph:
    graph = bundle.graph(plan.part, record.precision, forms=("padded",))
    if graph is None or graph.file != plan.graph:
        raise EngineMismatchError(
            f"engine {record.name} was built from {plan.graph}, which this bundle does not contain",
            hint="build the engine again",
        )
    return graph


def _open_plan(graph: Graph, folder: Path, plan: Plan, library: Library, runtime: Any) -> OpenPlan:
    name = f"{folder.name}/{plan.file}"
    with library.messages.heard() as messages:
        engine = runtime.deserialize_cuda_engine(read_plan(folder, plan))
    if engine is None:
        raise opening_error(name, messages)
    outputs = _outputs(graph, engine)
    expected = {tensor.name for tensor in (*graph.inputs, *outputs)}
    found = set(_tensor_names(engine))
    if found != expected:
        raise EngineError(
            f"{name}: {', '.join(sorted(found ^ expected))} is only in the plan or the graph",
            hint="build the engine again",
        )
    return OpenPlan(plan, engine, graph.inputs, outputs)


def _outputs(graph: Graph, engine: Any) -> tuple[Tensor, ...]:
    """The outputs of the graph and the float16 copies that the engine adds."""
    names = set(_tensor_names(engine))
    twins = [
        Tensor(tensor.name + HALF_SUFFIX, "float16", tensor.axes, tensor.meaning)
        for tensor in graph.outputs
        if tensor.name + HALF_SUFFIX in names
    ]
    return (*graph.outputs, *twins)


def _tensor_names(engine: Any) -> Sequence[str]:
    return [engine.get_tensor_name(index) for index in range(engine.num_io_tensors)]
