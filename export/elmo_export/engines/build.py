"""The graphs of a bundle -> TensorRT or TensorRT-RTX plans, in a folder of the bundle."""

from __future__ import annotations

import dataclasses
import hashlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from elmo_export.engines.layer_report import report_layers
from elmo_export.engines.profiles import Range, chosen_profiles, encoder_sizes, input_shapes
from elmo_export.engines.target import choose_gpu, choose_library
from elmo_export.engines.tensorrt import BuildOptions, BuiltPlan, build_plan
from elmo_export.own_files import ENGINE_FORMAT
from elmo_runtime.backends.tensorrt.library import Library
from elmo_runtime.bundle.engines import ENGINE_JSON, Engine, Plan, Sizes, read_engine, read_plan
from elmo_runtime.bundle.manifest import ENGINES, Bundle, Graph
from elmo_runtime.bundle.trust import is_trusted, record_built_here
from elmo_runtime.errors import ArtifactError, EngineError, InputError
from elmo_runtime.files.atomic import atomic_directory, sha256_of

Progress = Callable[[str, float], None]  # what is being done, and the share 0..1 that is done
PRECISIONS = ("fp16", "fp32")  # of engines, the preferred one first
STATES = ("final_h", "final_c")  # the outputs that stay float32 whatever the caller wants


@dataclass(frozen=True)
class EngineReport:
    """What `build_engine` did. `digest` is what another machine must be told to trust it."""

    folder: Path
    digest: str
    engine: Engine
    built: bool  # False: the very engine was there already
    seconds: Mapping[str, float] = field(default_factory=dict)  # plan file -> time to build it


def build_engine(
    bundle: str | Path,
    *,
    flavour: str = "auto",
    precision: str = "auto",
    batch: Sequence[Range] = (),
    length: Sequence[Range] = (),
    compute_capability: str | None = None,
    workspace: int | None = None,
    opt_level: int | None = None,
    timing_cache: Path | None = None,
    on_progress: Progress | None = None,
) -> EngineReport:
    """Compile the padded graphs of a bundle and add the engine to it; it appears whole or not.

    Ranges are (smallest, typical, largest); lengths count both sentence marks; without any, the
    default buckets are built. precision "auto" is fp16 where the bundle holds such graphs, else
    fp32. An engine of the same key that this user built here is kept as it is.
    Raises EngineError, InputError, BundleError or BackendUnavailableError.
    """
    profiles = chosen_profiles(batch, length)
    _check_precision(precision)
    opened = Bundle.open(Path(bundle))
    if precision == "auto":
        precision = next((name for name in PRECISIONS if name in opened.precisions), PRECISIONS[0])
    library = choose_library(flavour, compute_capability)
    options = BuildOptions(
        compute_capability=choose_gpu(library, compute_capability),
        workspace=workspace,
        opt_level=opt_level,
        timing_cache=timing_cache,
    )
    orders = _orders(opened, precision, profiles)
    wanted = _describe(opened, library, options, precision, orders)
    folder = opened.path / ENGINES / wanted.name
    if (digest := _digest_if_whole(folder, wanted)) is not None:
        return EngineReport(folder, digest, read_engine(folder)[0], built=False)
    return _build(opened, library, options, wanted, orders, on_progress or _say_nothing)


@dataclass(frozen=True)
class _Order:
    """A plan to be built."""

    graph: Graph
    sizes: Sizes
    n_layers: int

    @property
    def name(self) -> str:
        """bilm-32 for an exact length, bilm-3-1024 for a range, token_encoder."""
        low, _, high = self.sizes.get("marked_length", (0, 0, 0))
        lengths = [low] if low == high else [low, high]
        return "-".join([self.graph.part, *(str(number) for number in lengths if number)])

    @property
    def half_outputs(self) -> list[str]:
        """The outputs that a caller may want in float16: all vectors, no states."""
        if self.graph.part != "bilm":
            return []
        return [tensor.name for tensor in self.graph.outputs if tensor.name not in STATES]

    def plan(self, graph_sha256: str, built: BuiltPlan | None = None) -> Plan:
        """Its entry in engine.json; without the bytes as long as it is not built."""
        content = built.plan if built else b""
        return Plan(
            part=self.graph.part,
            file=f"{self.name}.plan",
            bytes=len(content),
            sha256=hashlib.sha256(content).hexdigest(),
            graph=self.graph.file,
            graph_sha256=graph_sha256,
            sizes=self.sizes,
            layers=report_layers(built.log, n_layers=self.n_layers).to_json() if built else {},
        )


def _orders(bundle: Bundle, precision: str, profiles: Sequence[Sizes]) -> list[_Order]:
    encoder, bilm = (_graph(bundle, part, precision) for part in ("token_encoder", "bilm"))
    n_layers = bundle.config.n_layers
    orders = [_Order(bilm, sizes, n_layers) for sizes in profiles]
    return [_Order(encoder, encoder_sizes(bundle.config), n_layers), *orders]


def _check_precision(precision: str) -> None:
    if precision not in ("auto", *PRECISIONS):
        raise InputError(
            f"engines cannot be built in precision {precision!r}",
            hint=f"use auto, {' or '.join(PRECISIONS)}; int8 graphs are for the CPU",
        )


def _graph(bundle: Bundle, part: str, precision: str) -> Graph:
    graph = bundle.graph(part, precision, forms=("padded",))
    if graph is None:
        raise EngineError(
            f"{bundle.path} holds no padded {part} graph of precision {precision}",
            hint=f"export the checkpoint with --precision {precision}",
        )
    return graph


def _describe(
    bundle: Bundle,
    library: Library,
    options: BuildOptions,
    precision: str,
    orders: Sequence[_Order],
) -> Engine:
    """The engine before it is built: its key and its name, and plans that have no bytes yet."""
    if len({order.name for order in orders}) < len(orders):
        raise InputError("two plans have the same length", hint="name every --length once")
    files = {order.graph.file for order in orders}
    digests = {file: sha256_of(bundle.path / file) for file in files}
    return Engine(
        flavour=library.flavour,
        library_version=library.version,
        compute_capability=options.compute_capability,
        precision=precision,
        flags=options.to_json(),
        plans=tuple(order.plan(digests[order.graph.file]) for order in orders),
    )


def _digest_if_whole(folder: Path, wanted: Engine) -> str | None:
    """The digest of an engine of this key that was built here and has lost no byte, or None."""
    try:
        engine, digest = read_engine(folder)
        if engine.key != wanted.key or not is_trusted(digest):
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
    wanted: Engine,
    orders: Sequence[_Order],
    report: Progress,
) -> EngineReport:
    folder = bundle.path / ENGINES / wanted.name
    seconds: dict[str, float] = {}
    plans = []
    with atomic_directory(folder, kind=ENGINE_FORMAT) as scratch:
        for number, (order, unbuilt) in enumerate(zip(orders, wanted.plans, strict=True)):
            started = time.monotonic()
            built = _build_plan(
                bundle, library, options, order, _phases(report, order, number / len(orders))
            )
            (scratch / unbuilt.file).write_bytes(built.plan)
            plans.append(order.plan(unbuilt.graph_sha256, built))
            seconds[unbuilt.file] = time.monotonic() - started
        engine = dataclasses.replace(wanted, plans=tuple(plans))
        (scratch / ENGINE_JSON).write_text(engine.to_json(), "utf-8")
    report("built", 1.0)
    digest = sha256_of(folder / ENGINE_JSON)
    try:
        record_built_here(digest)
    except (OSError, RuntimeError) as error:
        raise EngineError(
            f"{folder} is built, but its digest {digest} cannot be recorded: {error}",
            hint="set XDG_STATE_HOME to a directory that you may write to and build again,"
            " or pass the digest as trusted_engines",
        ) from error
    return EngineReport(folder, digest, engine, built=True, seconds=seconds)


def _build_plan(
    bundle: Bundle,
    library: Library,
    options: BuildOptions,
    order: _Order,
    on_phase: Callable[[str], None],
) -> BuiltPlan:
    low, _, high = order.sizes.get("marked_length", (0, 0, 0))
    return build_plan(
        library,
        bundle.read(order.graph.file),
        input_shapes(order.graph, order.sizes),
        options,
        name=order.name,
        capturable=low == high,
        half_outputs=order.half_outputs,
        on_progress=on_phase,
    )


def _phases(report: Progress, order: _Order, share: float) -> Callable[[str], None]:
    """What the builder says of itself, told with the name of the plan."""
    return lambda phase: report(f"{order.name}: {phase}", share)


def _say_nothing(what: str, share: float) -> None:
    return


def plan_rows(report: EngineReport) -> Iterator[dict[str, object]]:
    """The table of what was built, a plan a row; sizes in bytes, times in seconds."""
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
