"""ONNX Runtime on the CPU and on CUDA. The session reports the device on which it really runs."""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import logging
import os
import re
import weakref
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from elmo_runtime.backends.base import (
    BackendOptions,
    BiLmInputs,
    FloatArray,
    choose_precision,
)
from elmo_runtime.backends.bucketed import Buckets
from elmo_runtime.backends.onnxruntime.installation import (
    CPU,
    CUDA,
    import_onnxruntime,
    missing_cuda_libraries,
    no_cuda_provider,
)
from elmo_runtime.backends.onnxruntime.trimming import trimming_is_exact
from elmo_runtime.bundle.manifest import MANIFEST, Bundle, Graph, Tensor
from elmo_runtime.characters import trim
from elmo_runtime.errors import (
    BackendError,
    BackendUnavailableError,
    BundleVersionError,
    DeviceMemoryError,
)
from elmo_runtime.processors import is_restricted, usable_cpus

_LOGGER = logging.getLogger(__name__)
CPU_FORMS, CUDA_FORMS = ("packed", "padded"), ("padded",)
# A convolution needs 180 kB per word at full size, so the number of words per call is bounded.
WORDS_PER_CALL = 256
_DTYPES = {"tensor(float)": "float32", "tensor(float16)": "float16", "tensor(int32)": "int32"}
HEAVY = frozenset({"Conv", "Gemm", "MatMul", "Scan", "Loop"})
EXTERNAL_DATA = "session.model_external_initializers_file_folder_path"
_MEMORY = re.compile(r"out of memory|failed to allocate|bad_alloc|ALLOC_FAILED", re.IGNORECASE)
_SMALLER = "use a smaller token_budget"
SHRINK_EVERY = 256  # runs; it bounds the memory of shapes that no longer occur
_CUDA_OPTIONS = {
    "use_tf32": "0",  # it is on by default and rounds products to 10 bits
    "cudnn_conv_algo_search": "HEURISTIC",  # the default times every algorithm at each new shape
    "arena_extend_strategy": "kSameAsRequested",
}


class OnnxRuntimeBackend:
    """The two graphs of a bundle as sessions of one execution provider."""

    longest: int | None = None

    def __init__(
        self, bundle: Bundle, precision: str, provider: str, options: BackendOptions
    ) -> None:
        forms = CPU_FORMS if provider == CPU else CUDA_FORMS
        self.name = "onnxruntime-cpu" if provider == CPU else "onnxruntime-cuda"
        self.precision = precision
        self._widest_filter = max(width for width, _ in bundle.config.filters)
        encoder = _find(bundle, "token_encoder", ("padded",), precision)
        bilm = _find(bundle, "bilm", forms, precision)
        # Each session has its own memory arena; the biLM needs most of the memory.
        limit = options.gpu_mem_limit
        small = None if limit is None else limit // 4
        large = None if limit is None or small is None else limit - small
        self._encoder = _open(bundle, encoder, provider, replace(options, gpu_mem_limit=small))
        self._bilm = _open(bundle, bilm, provider, replace(options, gpu_mem_limit=large))
        self._trims = provider == CPU and trimming_is_exact(self._encode, bundle.config)

    def encode_words(self, char_ids: NDArray[np.int32]) -> FloatArray:
        """(words, max_characters) ids, at least one word -> (words, P)."""
        groups = [
            char_ids[start : start + WORDS_PER_CALL]
            for start in range(0, len(char_ids), WORDS_PER_CALL)
        ]
        if self._trims:
            groups = [trim(group, self._widest_filter) for group in groups]
        return np.concatenate([self._encode(group) for group in groups])

    def run_bilm(
        self, inputs: BiLmInputs, outputs: Sequence[str], *, half: bool = False
    ) -> dict[str, NDArray[np.floating[Any]]]:
        """A batch -> the requested outputs; vectors are float32, even if half is set."""
        return self._bilm.run(inputs.of_graph(), outputs)

    def close(self) -> None:
        """Free the sessions: their weights, arenas and threads."""
        del self._encoder, self._bilm

    def _encode(self, char_ids: NDArray[np.int32]) -> FloatArray:
        return self._encoder.run({"char_ids": char_ids}, ["word_vectors"])["word_vectors"]


class _Session:
    """An InferenceSession that raises ElmoDeployError and copies only the requested outputs."""

    def __init__(self, session: Any) -> None:
        self._session = session

    def run(
        self, inputs: Mapping[str, NDArray[Any]], outputs: Sequence[str]
    ) -> dict[str, FloatArray]:
        """Arrays by name -> the requested outputs, in host memory."""
        with _translated_errors():
            binding = self._session.io_binding()
            contiguous = {name: np.ascontiguousarray(array) for name, array in inputs.items()}
            for name, array in contiguous.items():
                binding.bind_cpu_input(name, array)
            for name in outputs:
                binding.bind_output(name, "cpu")
            self._session.run_with_iobinding(binding, self._run_options(contiguous))
            return dict(zip(outputs, binding.copy_outputs_to_cpu(), strict=True))

    def _run_options(self, inputs: Mapping[str, NDArray[Any]]) -> Any | None:
        """The options of this run; None is the default."""
        return None


class _CudaSession(_Session):
    """Pads to buckets and frees the device memory of earlier shapes."""

    def __init__(self, session: Any, graph: Graph) -> None:
        super().__init__(session)
        self._buckets = Buckets(graph)
        self._seen: set[tuple[tuple[int, ...], ...]] = set()
        self._runs = 0
        shrinking = import_onnxruntime().RunOptions()
        shrinking.add_run_config_entry("memory.enable_memory_arena_shrinkage", "gpu:0")
        self._shrinking = shrinking

    def run(
        self, inputs: Mapping[str, NDArray[Any]], outputs: Sequence[str]
    ) -> dict[str, FloatArray]:
        """Arrays by name -> the requested outputs, in host memory."""
        try:
            computed = super().run(self._buckets.pad(inputs), outputs)
        except DeviceMemoryError:
            self._seen.clear()  # so that the next runs shrink the arena
            raise
        return self._buckets.cut(computed, inputs)

    def _run_options(self, inputs: Mapping[str, NDArray[Any]]) -> Any | None:
        """Shrink the arena only after the first run of a shape and after many runs: it is slow."""
        shapes = tuple(array.shape for array in inputs.values())
        is_new = shapes not in self._seen
        self._seen.add(shapes)
        self._runs += 1
        return self._shrinking if is_new or self._runs % SHRINK_EVERY == 0 else None


def open_cpu(bundle: Bundle, precision: str, options: BackendOptions) -> OnnxRuntimeBackend:
    """Raises BackendUnavailableError if onnxruntime is missing or cannot open the graphs."""
    import_onnxruntime()
    chosen = choose_precision(bundle, precision, preferred=("fp32", "fp16", "int8"))
    return OnnxRuntimeBackend(bundle, chosen, CPU, options)


def open_cuda(bundle: Bundle, precision: str, options: BackendOptions) -> OnnxRuntimeBackend:
    """Open CUDA. Raises BackendUnavailableError unless the sessions really run on it."""
    onnxruntime = import_onnxruntime()
    if CUDA not in onnxruntime.get_available_providers():
        raise no_cuda_provider()
    missing = missing_cuda_libraries(onnxruntime)
    chosen = choose_precision(bundle, precision, preferred=("fp16", "fp32"))
    try:
        return OnnxRuntimeBackend(bundle, chosen, CUDA, options)
    except BackendUnavailableError as error:
        if not missing:
            raise
        raise BackendUnavailableError(
            f"the CUDA libraries {', '.join(missing)} cannot be loaded: {error.what}",
            hint='pip install "elmo-deploy[gpu]" brings them; doctor shows the driver',
        ) from error


def _find(bundle: Bundle, part: str, forms: Sequence[str], precision: str) -> Graph:
    graph = bundle.graph(part, precision, forms=forms)
    if graph is None:
        raise BackendUnavailableError(
            f"{bundle.path} holds no {part} graph of precision {precision} and form"
            f" {' or '.join(forms)}",
            hint="export the checkpoint again",
        )
    return graph


def _open(bundle: Bundle, graph: Graph, provider: str, options: BackendOptions) -> _Session:
    session = _create_session(bundle, graph.file, provider, options)
    if (found := session.get_providers()[0]) != provider:
        raise BackendUnavailableError(
            f"{provider} was requested, but the session runs on {found}",
            hint='check the driver with nvidia-smi, and pip install "elmo-deploy[gpu]"',
        )
    _check_placement(session, provider)
    _check_interface(session, graph)
    return _Session(session) if provider == CPU else _CudaSession(session, graph)


def _create_session(bundle: Bundle, name: str, provider: str, options: BackendOptions) -> Any:
    """A session of exactly the bytes whose digest was checked."""
    onnxruntime = import_onnxruntime()
    settings = onnxruntime.SessionOptions()
    settings.log_severity_level = 3  # errors only, because the warnings concern graph clean-ups
    settings.intra_op_num_threads = _threads(options)
    settings.add_session_config_entry("session.intra_op.allow_spinning", str(int(options.spinning)))
    # A bundle has no tensors in other files, which would be read from the current directory.
    settings.add_session_config_entry(EXTERNAL_DATA, os.devnull)
    if provider == CUDA:
        settings.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
    provider_options = [_cuda_options(options) if provider == CUDA else {}]
    try:
        with _translated_errors():
            session = onnxruntime.InferenceSession(
                bundle.read(name), settings, [provider], provider_options, enable_fallback=0
            )
    except DeviceMemoryError as error:
        raise BackendUnavailableError(
            f"the memory cannot hold {name} ({bundle.files[name].bytes >> 20} MiB): {error.what}",
            hint="free memory, or use a machine with more of it",
        ) from error
    except BackendError as error:
        raise BackendUnavailableError(
            f"onnxruntime {onnxruntime.__version__} cannot open {name}: {error.what}",
            hint="update onnxruntime, or export the bundle again",
        ) from error
    _SESSIONS.add(session)
    return session


def _cuda_options(options: BackendOptions) -> dict[str, str]:
    limit = options.gpu_mem_limit
    return _CUDA_OPTIONS | ({} if limit is None else {"gpu_mem_limit": str(limit)})


def _threads(options: BackendOptions) -> int:
    """0 would let ONNX Runtime use every core, even beyond the quota of a container."""
    if options.threads is not None:
        return options.threads
    return usable_cpus() if is_restricted() else 0


def _check_placement(session: Any, provider: str) -> None:
    """Refuse a CUDA session that runs a heavy operator on the CPU.

    The option session.disable_cpu_ep_fallback would refuse every ELMo graph: ONNX Runtime computes
    shapes on the CPU on purpose, and the option does not exempt them.
    """
    if provider == CPU or not hasattr(session, "get_provider_graph_assignment_info"):
        return
    for subgraph in session.get_provider_graph_assignment_info():
        left = {node.op_type for node in subgraph.get_nodes()} & HEAVY
        if subgraph.ep_name == CPU and left:
            raise BackendUnavailableError(
                f"onnxruntime runs {', '.join(sorted(left))} on the CPU in place of {provider}",
                hint="update onnxruntime-gpu",
            )


def _check_interface(session: Any, graph: Graph) -> None:
    """Refuse a graph whose inputs and outputs differ from the manifest."""
    found = {_described(value) for value in (*session.get_inputs(), *session.get_outputs())}
    listed = {_listed(tensor) for tensor in (*graph.inputs, *graph.outputs)}
    if found != listed:
        raise BundleVersionError(
            f"{graph.file} has {sorted(found - listed)}, {MANIFEST} {sorted(listed - found)}",
            hint="export the bundle again",
        )


def _described(value: Any) -> tuple[str, str, str]:
    """The name, dtype and axes of an input or output of a session."""
    kind = _DTYPES.get(value.type, value.type)
    return value.name, kind, _axes(value.shape)


def _listed(tensor: Tensor) -> tuple[str, str, str]:
    return tensor.name, tensor.dtype, _axes(tensor.axes)


def _axes(axes: Sequence[int | str | None]) -> str:
    """The fixed sizes; the names of free axes do not matter."""
    return " x ".join(str(axis) if isinstance(axis, int) else "n" for axis in axes)


@contextlib.contextmanager
def _translated_errors() -> Iterator[None]:
    try:
        yield
    except MemoryError as error:
        raise DeviceMemoryError("onnxruntime found no memory", hint=_SMALLER) from error
    except _their_errors() as error:
        text = " ".join(str(error).split())
        if _MEMORY.search(text):
            raise DeviceMemoryError(text, hint=_SMALLER) from error
        raise BackendError(text) from error


def _their_errors() -> tuple[type[Exception], ...]:
    """The exceptions of onnxruntime, which have no common base class."""
    state = vars(importlib.import_module("onnxruntime.capi.onnxruntime_pybind11_state"))
    own = (value for value in state.values() if isinstance(value, type))
    return RuntimeError, ValueError, *(kind for kind in own if issubclass(kind, Exception))


_SESSIONS: weakref.WeakSet[Any] = weakref.WeakSet()


def _abandon_sessions() -> None:
    """Keep every session of the parent alive in a forked process until that process ends.

    Freeing a session destroys the locks on which its threads sleep. No thread survives a fork, so
    the child would wait for them forever (seen with 1.32). One extra reference prevents that.
    """
    for session in _SESSIONS:
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(session))


if hasattr(os, "register_at_fork"):  # Windows has no fork
    os.register_at_fork(after_in_child=_abandon_sessions)
