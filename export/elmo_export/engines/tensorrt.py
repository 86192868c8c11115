"""One ONNX graph -> one plan, by TensorRT or TensorRT-RTX. It does not know bundles."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from elmo_runtime.backends.tensorrt.library import Library, Message, first_error, without_noise
from elmo_runtime.bundle.engines import HALF_SUFFIX
from elmo_runtime.errors import BackendUnavailableError, EngineError, InputError
from elmo_runtime.files.atomic import atomic_file
from elmo_runtime.float16 import FP16_MAX

Shapes = Mapping[str, Sequence[tuple[int, ...]]]  # input -> smallest, typical, largest
Progress = Callable[[str], None]  # receives the compiler's current phase


@dataclass(frozen=True, kw_only=True)
class BuildOptions:
    """The options of a build, without the profile; None keeps the library's default."""

    compute_capability: str  # "8.6"
    workspace: int | None = None  # bytes of scratch memory per kernel
    opt_level: int | None = None  # 0..5
    allow_tf32: bool = False  # FP32 products rounded to 10 bits would miss the parity of fp32
    timing_cache: Path | None = None

    def to_json(self) -> dict[str, Any]:
        """The options that decide the plan; measured timings are not part of the key."""
        return {
            "workspace": self.workspace,
            "opt_level": self.opt_level,
            "allow_tf32": self.allow_tf32,
        }


@dataclass(frozen=True)
class BuiltPlan:
    """The bytes of a plan, and all messages of the builder."""

    plan: bytes
    log: str


def build_plan(
    library: Library,
    graph: bytes,
    shapes: Shapes,
    options: BuildOptions,
    *,
    name: str,
    capturable: bool,
    half_outputs: Sequence[str] = (),
    on_progress: Progress | None = None,
) -> BuiltPlan:
    """Compile an ONNX file for one profile.

    `half_outputs` exist a second time as float16. A `capturable` plan allocates nothing while it
    runs, so that a CUDA graph can record it. Raises EngineError with the node that cannot be
    compiled, BackendUnavailableError if the library cannot build on this machine.
    """
    with library.messages.heard() as messages:
        builder = _builder(library, messages)
        network = _parse(library, builder, graph, name, messages)
        _add_half_outputs(library, network, half_outputs)
        config = _configure(library, builder, options, capturable=capturable)
        if on_progress is not None:
            config.progress_monitor = _monitor(library, on_progress)
        if options.timing_cache is not None:
            _use_timing_cache(library, config, options.timing_cache)
        profile = builder.create_optimization_profile()
        for tensor, (smallest, typical, largest) in shapes.items():
            profile.set_shape(tensor, smallest, typical, largest)
        if config.add_optimization_profile(profile) < 0:
            raise EngineError(f"{name}: {first_error(messages)}", hint="change the ranges")
        plan = builder.build_serialized_network(network, config)
        if plan is None:
            raise _build_error(name, messages)
        if options.timing_cache is not None:
            _keep_timing_cache(config, options.timing_cache)
        return BuiltPlan(bytes(memoryview(plan)), "\n".join(message.text for message in messages))


def _builder(library: Library, messages: Sequence[Message]) -> Any:
    try:
        return library.module.Builder(library.logger)
    except TypeError as error:  # TensorRT needs a GPU to build; its factory returns null
        raise BackendUnavailableError(
            f"{library.flavour} cannot build here: {first_error(messages)}",
            hint="build on the machine with the GPU, or use --compiler tensorrt-rtx",
        ) from error


def _parse(
    library: Library, builder: Any, graph: bytes, name: str, messages: Sequence[Message]
) -> Any:
    module = library.module
    strongly_typed = 1 << int(module.NetworkDefinitionCreationFlag.STRONGLY_TYPED)
    network = builder.create_network(strongly_typed)
    parser = module.OnnxParser(network, library.logger)
    if parser.parse(graph):
        return network
    if parser.num_errors == 0:
        raise EngineError(f"{name} cannot be parsed: {first_error(messages)}")
    error = parser.get_error(0)
    node = (
        f"node {error.node_name()} ({error.node_operator()})" if error.node_name() else "the file"
    )
    said = " ".join(without_noise(error.desc()).split())
    code = str(error.code()).rpartition(".")[2]
    raise EngineError(
        f"{name}: {library.flavour} {library.version} cannot compile {node}: {code} {said}",
        hint="export the bundle again with this version of elmo-deploy, or update the library",
    )


def _add_half_outputs(library: Library, network: Any, names: Sequence[str]) -> None:
    """Add float16 copies of some outputs, so that half the bytes cross the PCIe bus."""
    clip = library.module.ActivationType.CLIP
    outputs = {network.get_output(index).name: index for index in range(network.num_outputs)}
    for name in names:
        held = network.add_activation(network.get_output(outputs[name]), clip)
        held.alpha, held.beta = -FP16_MAX, FP16_MAX  # clipped to the range of float16
        cast = network.add_cast(held.get_output(0), library.module.DataType.HALF)
        half = cast.get_output(0)
        half.name = name + HALF_SUFFIX
        network.mark_output(half)


def _configure(library: Library, builder: Any, options: BuildOptions, *, capturable: bool) -> Any:
    module = library.module
    config = builder.create_builder_config()
    config.profiling_verbosity = module.ProfilingVerbosity.DETAILED  # the layer report reads it
    if library.builds_for_other_gpus:
        config.num_compute_capabilities = 1
        config.set_compute_capability(_target(library, options.compute_capability), 0)
    if not options.allow_tf32:
        config.clear_flag(module.BuilderFlag.TF32)
    # A CUDA graph cannot capture memory allocations of the library.
    user_allocation = library.builder_flag("REQUIRE_USER_ALLOCATION")
    if capturable and user_allocation is not None:
        config.set_flag(user_allocation)
    if options.workspace is not None:
        config.set_memory_pool_limit(module.MemoryPoolType.WORKSPACE, options.workspace)
    if options.opt_level is not None:
        config.builder_optimization_level = options.opt_level
    return config


def _target(library: Library, compute_capability: str) -> Any:
    known = library.module.ComputeCapability
    target = getattr(known, f"SM{compute_capability.replace('.', '')}", None)
    if target is None:
        names = [name[2:] for name in dir(known) if name[:2] == "SM" and name[2:].isdigit()]
        offered = ", ".join(f"{name[:-1]}.{name[-1]}" for name in sorted(names, key=int))
        raise InputError(
            f"{library.flavour} {library.version} builds no engines for compute capability"
            f" {compute_capability}",
            hint=f"it supports {offered}",
        )
    return target


def _monitor(library: Library, on_progress: Progress) -> Any:
    class Monitor(library.module.IProgressMonitor):  # type: ignore[name-defined,misc]
        def __init__(self) -> None:
            library.module.IProgressMonitor.__init__(self)

        def phase_start(self, phase: str, parent: str | None, steps: int) -> None:
            on_progress(phase)

        def step_complete(self, phase: str, step: int) -> bool:
            return True  # False would cancel the build

        def phase_finish(self, phase: str) -> None:
            return

    return Monitor()


def _use_timing_cache(library: Library, config: Any, path: Path) -> None:
    if library.flavour == "tensorrt-rtx":
        raise InputError(
            "a timing cache does nothing in TensorRT-RTX, which times no kernels while it builds",
            hint="leave out --timing-cache",
        )
    cache = config.create_timing_cache(path.read_bytes() if path.exists() else b"")
    if cache is None or not config.set_timing_cache(cache, False):
        raise EngineError(
            f"{path} is not a timing cache of this library and GPU",
            hint="name another file; a missing file is created",
        )


def _keep_timing_cache(config: Any, path: Path) -> None:
    with atomic_file(path) as scratch:
        scratch.write_bytes(bytes(memoryview(config.get_timing_cache().serialize())))


def _build_error(name: str, messages: Sequence[Message]) -> EngineError:
    reason = first_error(messages)
    if "memory" in reason.lower():
        return EngineError(
            f"{name} cannot be built: {reason}",
            hint="lower --workspace, or use smaller batches",
        )
    return EngineError(f"{name} cannot be built: {reason}")
