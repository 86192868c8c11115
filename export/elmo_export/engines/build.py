"""The graphs of a bundle -> TensorRT or TensorRT-RTX plans, in a directory of the bundle."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from elmo_export.engines.plan_orders import PlanOrder, plan_orders
from elmo_export.engines.profiles import Range, chosen_profiles, input_shapes
from elmo_export.engines.target import choose_gpu, choose_library
from elmo_export.engines.tensorrt import BuildOptions, BuiltPlan, build_plan
from elmo_export.own_files import ENGINE_FORMAT
from elmo_runtime.backends.tensorrt.library import Library
from elmo_runtime.bundle.engines import ENGINE_JSON, Engine, EngineSpec, read_engine, read_plan
from elmo_runtime.bundle.manifest import ENGINES, Bundle
from elmo_runtime.bundle.trust import is_trusted, record_built_here
from elmo_runtime.errors import ArtifactError, EngineError, InputError
from elmo_runtime.files.atomic import atomic_directory, sha256_of

Progress = Callable[[str, float], None]  # the current work, and the finished share 0..1
PRECISIONS = ("fp16", "fp32")  # of engines, the preferred one first
FORMER_NAME = "flavour"


@dataclass(frozen=True)
class EngineReport:
    """The result of `build_engine`. Another machine needs `digest` to trust the engine."""

    folder: Path
    digest: str
    engine: Engine
    built: bool  # False: an identical engine existed
    seconds: Mapping[str, float] = field(default_factory=dict)  # build time per plan file


def build_engine(  # noqa: D417  the docstring mentions the former name of an argument
    bundle: str | Path,
    *,
    compiler: str = "auto",
    precision: str = "auto",
    batch: Sequence[Range] = (),
    length: Sequence[Range] = (),
    compute_capability: str | None = None,
    workspace: int | None = None,
    opt_level: int | None = None,
    timing_cache: Path | None = None,
    on_progress: Progress | None = None,
    flavour: str | None = None,
) -> EngineReport:
    """Compile the padded graphs of a bundle and add the engine to it, atomically.

    An engine of the same key that this user built on this machine is not built again. `compiler`
    can be passed under its former name, with a warning.

    Args:
        bundle: The directory of the bundle.
        compiler: tensorrt, tensorrt-rtx, or auto for the one that is installed.
        precision: fp16, fp32, or auto for fp16 where the bundle has such graphs, else fp32.
        batch: Ranges (smallest, typical, largest) of the batch: one, or one per length.
        length: Ranges of the padded length, boundary tokens included. By default, one plan per
            bucket and one for every length up to 2048.
        compute_capability: The GPU generation, for example "8.6"; by default, this GPU's.
        workspace: The maximum scratch memory per kernel, in bytes.
        opt_level: The optimization level of the compiler, 0 to 5.
        timing_cache: A file for kernel timings, which only TensorRT uses.
        on_progress: A function of the current work and the finished share, 0 to 1.

    Returns:
        The directory, the digest and the plans of the engine.

    Raises:
        InputError: An argument is out of range, or no GPU is given.
        EngineError: A graph is missing or cannot be compiled.
        BundleError: The bundle is missing, corrupt or of another version.
        BackendUnavailableError: The compiler is not installed or cannot build here.
    """
    profiles = chosen_profiles(batch, length)
    _check_precision(precision)
    opened = Bundle.open(Path(bundle))
    if precision == "auto":
        precision = next((name for name in PRECISIONS if name in opened.precisions), PRECISIONS[0])
    library = choose_library(_renamed(flavour, compiler), compute_capability)
    options = BuildOptions(
        compute_capability=choose_gpu(library, compute_capability),
        workspace=workspace,
        opt_level=opt_level,
        timing_cache=timing_cache,
    )
    orders = plan_orders(opened, precision, profiles)
    spec = _specify(library, options, precision, orders)
    folder = opened.path / ENGINES / spec.name
    if (digest := _digest_if_usable(folder, spec)) is not None:
        return EngineReport(folder, digest, read_engine(folder)[0], built=False)
    return _build(opened, library, options, spec, orders, on_progress or _no_report)


def _renamed(flavour: str | None, compiler: str) -> str:
    if flavour is None:
        return compiler
    warnings.warn(
        f"{FORMER_NAME} is now called compiler; the next release removes the old name",
        DeprecationWarning,
        stacklevel=3,
    )
    return flavour


def _check_precision(precision: str) -> None:
    if precision not in ("auto", *PRECISIONS):
        raise InputError(
            f"engines cannot be built in precision {precision!r}",
            hint=f"use auto, {' or '.join(PRECISIONS)}; int8 graphs are for the CPU",
        )


def _specify(
    library: Library, options: BuildOptions, precision: str, orders: Sequence[PlanOrder]
) -> EngineSpec:
    if len({order.name for order in orders}) < len(orders):
        raise InputError("two plans have the same length", hint="give every --length once")
    return EngineSpec(
        flavour=library.flavour,
        library_version=library.version,
        compute_capability=options.compute_capability,
        precision=precision,
        flags=options.to_json(),
        plans=tuple(order.spec for order in orders),
    )


def _digest_if_usable(folder: Path, spec: EngineSpec) -> str | None:
    """The digest of an intact engine of this specification that was built here, or None."""
    try:
        engine, digest = read_engine(folder)
        if engine.spec.key != spec.key or not is_trusted(digest):
            return None
        for plan in engine.plans:
            read_plan(folder, plan)
    except ArtifactError:
        return None
    return digest


def _build(
    bundle: Bundle,
    library: Library,
    options: BuildOptions,
    spec: EngineSpec,
    orders: Sequence[PlanOrder],
    report: Progress,
) -> EngineReport:
    folder = bundle.path / ENGINES / spec.name
    seconds: dict[str, float] = {}
    plans = []
    with atomic_directory(folder, kind=ENGINE_FORMAT) as scratch:
        for number, order in enumerate(orders):
            started = time.monotonic()
            on_phase = _phases(report, order, number / len(orders))
            built = _build_plan(bundle, library, options, order, on_phase)
            (scratch / order.file).write_bytes(built.plan)
            plans.append(order.built(built))
            seconds[order.file] = time.monotonic() - started
        engine = spec.built(plans)
        (scratch / ENGINE_JSON).write_text(engine.to_json(), "utf-8")
    report("built", 1.0)
    digest = sha256_of(folder / ENGINE_JSON)
    _record(folder, digest)
    return EngineReport(folder, digest, engine, built=True, seconds=seconds)


def _build_plan(
    bundle: Bundle,
    library: Library,
    options: BuildOptions,
    order: PlanOrder,
    on_phase: Callable[[str], None],
) -> BuiltPlan:
    return build_plan(
        library,
        bundle.read(order.graph.file),
        input_shapes(order.graph, order.spec.sizes),
        options,
        name=order.name,
        capturable=order.capturable,
        half_outputs=order.half_outputs,
        on_progress=on_phase,
    )


def _record(folder: Path, digest: str) -> None:
    """Remember that this user built the engine here. Raises EngineError if that is impossible."""
    try:
        record_built_here(digest)
    except (OSError, RuntimeError) as error:
        raise EngineError(
            f"{folder} is built, but its digest {digest} cannot be recorded: {error}",
            hint="set XDG_STATE_HOME to a directory that you may write to and build again,"
            " or pass the digest as trusted_engines",
        ) from error


def _phases(report: Progress, order: PlanOrder, share: float) -> Callable[[str], None]:
    """Report the compiler's phases under the name of the plan."""
    return lambda phase: report(f"{order.name}: {phase}", share)


def _no_report(what: str, share: float) -> None:
    return


def plan_rows(report: EngineReport) -> Iterator[dict[str, object]]:
    """The table of the plans, one row per plan; sizes are bytes, times are seconds."""
    for plan in report.engine.plans:
        lengths = plan.sizes.get("marked_length")
        words_or_batch = plan.sizes.get("batch") or plan.sizes["words"]
        yield {
            "plan": plan.file.removesuffix(".plan"),
            "length": ":".join(map(str, lengths)) if lengths else "",
            "batch": ":".join(map(str, words_or_batch)),
            "kernels_per_step": plan.layers["kernels_per_step"],
            "device_to_host_copies": plan.layers["device_to_host_copies"],
            "weight_bytes": plan.layers["weight_bytes"],
            "activation_bytes": plan.layers["activation_bytes"],
            "plan_bytes": plan.bytes,
            "seconds": round(report.seconds.get(plan.file, 0.0), 1),
        }
